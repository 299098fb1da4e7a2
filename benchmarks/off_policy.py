"""What the off-policy estimates are worth where the truth is known: python -m benchmarks.off_policy

First two markets of the tests, over many logs each: how often intervals and lower bounds hold the truth, how
much of the true gain the median lower bound finds, relative error, rank correlation over target policies, and
how they fare as the overlap shrinks. Then the small Open Bandit data both ways, with the error of its own
truth. The last line is JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the markets are those of the tests

from recsys.policy.off_policy.overlap import decision_overlap  # noqa: E402
from recsys.policy.off_policy.panel import PanelConfig, decision_estimates  # noqa: E402
from recsys.policy.off_policy.refusal import OverlapRules, reasons_against  # noqa: E402
from tests.policy.off_policy.open_bandit import (  # noqa: E402
    BTS,
    CAMPAIGNS,
    FOLDER,
    RANDOM,
    OpenBanditLog,
    is_there,
    open_log,
)
from tests.policy.off_policy.study import (  # noqa: E402
    METHODS,
    Coverage,
    Estimated,
    bernstein,
    coverage,
    decision_logs,
    rank_correlation,
    sequence_logs,
)
from tests.policy.off_policy.worlds import DecisionWorld, SequenceWorld  # noqa: E402

NUM_LOGS = 400
NUM_USERS = 1000
NUM_RESAMPLES = 400
NUM_RUNS = 100  # bootstraps of an Open Bandit log
NUM_RANKED = 10  # target policies, on 50 of the logs
DECISION_TARGET, SEQUENCE_TARGET = 20.0, 1.0  # sharpness of those of the coverage studies

Figures = dict[str, float]


def main() -> None:
    figures: Figures = {}
    decisions, sequences = DecisionWorld.make(), SequenceWorld.make()
    study_decisions(decisions, figures)
    study_sequences(sequences, figures)
    study_overlap(sequences, figures)
    if is_there():
        for campaign in CAMPAIGNS:
            for logged_by in (RANDOM, BTS):
                study_open_bandit(logged_by, campaign, figures)
    else:
        print(f"\nOpen Bandit left out: {FOLDER} is not there; RECSYS_SHARED_DATA names the folder above it")
    print(json.dumps({name: round(figure, 4) for name, figure in figures.items()}))


def study_decisions(world: DecisionWorld, figures: Figures) -> None:
    def logs_of(target_TA: np.ndarray, num_logs: int) -> Iterable[Estimated]:
        return decision_logs(world, target_TA, num_users=NUM_USERS, seeds=range(num_logs))

    target_TA, ranked = world.target(DECISION_TARGET), world.lookalikes(NUM_RANKED)
    found = coverage(
        logs_of(target_TA, NUM_LOGS),
        truth=world.value(target_TA),
        logged_truth=world.value(world.logging_TA),
        num_resamples=NUM_RESAMPLES,
    )
    ranks = rank_correlation([logs_of(each, 50) for each in ranked], [world.value(each) for each in ranked])
    print_coverage(f"Single decisions, {NUM_LOGS} logs of {NUM_USERS} users", found, ranks)
    keep("decisions", found, ranks, figures)
    for num_users in (NUM_USERS, 5 * NUM_USERS):
        held, median = bernstein(world, target_TA, num_users=num_users, seeds=range(200), cap=10.0)
        print(
            f"empirical Bernstein, {num_users} users: holds {held:.3f}, median {median:+.2f} of the true gain"
        )
        figures[f"bernstein_{num_users}_users_gain_one_sided"] = held
        figures[f"bernstein_{num_users}_users_median_gain_bound"] = median


def study_sequences(world: SequenceWorld, figures: Figures) -> None:
    def logs_of(target_GA: np.ndarray, num_logs: int) -> Iterable[Estimated]:
        return sequence_logs(world, target_GA, num_users=NUM_USERS, seeds=range(num_logs))

    target_GA, ranked = world.target(SEQUENCE_TARGET), world.lookalikes(NUM_RANKED)
    found = coverage(
        logs_of(target_GA, NUM_LOGS),
        truth=world.value(target_GA),
        logged_truth=world.value(world.logging_GA),
        num_resamples=NUM_RESAMPLES,
    )
    ranks = rank_correlation([logs_of(each, 50) for each in ranked], [world.value(each) for each in ranked])
    print_coverage(f"Sequences of {world.num_steps}, {NUM_LOGS} logs of {NUM_USERS} users", found, ranks)
    keep("sequences", found, ranks, figures)


def study_overlap(world: SequenceWorld, figures: Figures) -> None:
    """Coverage of the self-normalised estimate by t as the target leaves the log."""
    print("\nAs the overlap shrinks (sequences, t): effective share, two-sided, one-sided, relative error")
    for sharpness in (1.0, 2.0, 3.0, 4.0, 6.0, 10.0):
        target_GA = world.target(sharpness)
        logs = list(sequence_logs(world, target_GA, num_users=NUM_USERS, seeds=range(NUM_LOGS)))
        share = float(np.mean([effective_share for _, _, effective_share in logs]))
        found = coverage(
            logs,
            truth=world.value(target_GA),
            logged_truth=world.value(world.logging_GA),
            num_resamples=0,
        )
        for name in ("per_decision_is", "self_normalised", "fitted_q"):
            row = found[name]["t"]
            print(
                f"{share:>7.1%} {name:<16} {row.two_sided:.3f} {row.one_sided:.3f} {row.relative_error:.3f}"
            )
            figures[f"overlap_{sharpness:g}_{name}_two_sided"] = row.two_sided
        figures[f"overlap_{sharpness:g}_effective_share"] = share


def print_coverage(title: str, found: dict[str, dict[str, Coverage]], ranks: dict[str, float]) -> None:
    print(f"\n{title}\n{'':<16} {'':<12} two-sided one-sided  gain's median/gain rel.error rank corr.")
    for name, by_method in found.items():
        for method in METHODS:
            row = by_method[method]
            print(
                f"{name:<16} {method:<12} {row.two_sided:>9.3f} {row.one_sided:>9.3f}"
                f" {row.gain_one_sided:>7.3f} {row.median_gain_bound:>11.2f} {row.relative_error:>9.3f}"
                f" {ranks[name]:>10.3f}"
            )


def keep(
    world: str, found: dict[str, dict[str, Coverage]], ranks: dict[str, float], figures: Figures
) -> None:
    for name, by_method in found.items():
        row = by_method["percentile"]
        for figure, value in vars(row).items():
            figures[f"{world}_{name}_{figure}"] = float(value)
        figures[f"{world}_{name}_rank_correlation"] = ranks[name]


def study_open_bandit(logged_by: str, campaign: str, figures: Figures) -> None:
    """Relative errors over bootstraps of the log, the reward model fitted anew in each."""
    log = open_log(logged_by=logged_by, campaign=campaign)
    overlap = decision_overlap(log.decisions, cap=PanelConfig().weight_cap)
    where = f"{logged_by}_to_{BTS if logged_by == RANDOM else RANDOM}_{campaign}"
    print(
        f"\nOpen Bandit {where}: truth {log.truth.value:.4f} with relative error "
        f"{log.truth.relative_error:.3f}; effective {overlap.effective_share:.3f}, "
        f"largest weight {overlap.max_weight:.1f}, mean {overlap.mean_weight:.3f}"
    )
    for reason in reasons_against(overlap, OverlapRules()):
        print(f"  refused: {reason}")
    for name, errors in bootstrapped_errors(log).items():
        print(f"  {name:<10} relative error {np.mean(errors):.3f}, spread {np.std(errors):.3f}")
        figures[f"open_bandit_{where}_{name}_relative_error"] = float(np.mean(errors))
    figures[f"open_bandit_{where}_effective_share"] = overlap.effective_share
    figures[f"open_bandit_{where}_truth_relative_error"] = log.truth.relative_error


def bootstrapped_errors(log: OpenBanditLog) -> dict[str, list[float]]:
    errors: dict[str, list[float]] = {}
    num_rows = len(log.features_RD)
    for run in range(NUM_RUNS):
        row_R = np.random.default_rng(run).integers(num_rows, size=num_rows)
        estimates = decision_estimates(log.with_model(row_R=row_R, seed=run), PanelConfig(shrinkage=100.0))
        for name, estimate in estimates.items():
            errors.setdefault(name, []).append(abs(estimate.value / log.truth.value - 1))
    return errors


if __name__ == "__main__":
    main()
