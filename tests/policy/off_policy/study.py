"""Many logs of a market: how often intervals hold the truth, how much of the true gain bounds find."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from recsys.policy.off_policy import sequences as sequence
from recsys.policy.off_policy import single_step
from recsys.policy.off_policy.bounds import Bounds, bootstrap_bounds, t_bounds
from recsys.policy.off_policy.clipped import clipped_lower
from recsys.policy.off_policy.contributions import Contributions
from recsys.policy.off_policy.fitted_q import fitted_q
from recsys.policy.off_policy.overlap import decision_overlap, sequence_overlap
from recsys.policy.off_policy.panel import PanelConfig, decision_estimates
from tests.policy.off_policy.worlds import DecisionWorld, LoggedSequences, SequenceWorld

CONFIG = PanelConfig()
METHODS = ("percentile", "studentised", "t")

# What one log gives: each estimate, the reward that was logged, and the share of the log that is effective.
Estimated = tuple[Mapping[str, Contributions], Contributions, float]


@dataclass(frozen=True)
class Coverage:
    """Shares of the logs, and medians over them, of one estimator under one way of making bounds."""

    two_sided: float  # intervals that hold the true value
    one_sided: float  # lower bounds at or below the true value
    gain_one_sided: float  # lower bounds of the paired gain at or below the true gain
    median_gain_bound: float  # median lower bound of the gain, in true gains
    relative_error: float  # mean |estimate - truth| / truth


def decision_logs(
    world: DecisionWorld,
    target_TA: np.ndarray,
    *,
    num_users: int,
    seeds: Iterable[int],
    with_model: bool = True,
) -> Iterable[Estimated]:
    for seed in seeds:
        log = world.log(seed=seed, num_users=num_users, target_TA=target_TA, with_model=with_model)
        overlap = decision_overlap(log, cap=CONFIG.weight_cap)
        yield decision_estimates(log, CONFIG), single_step.logged(log), overlap.effective_share


def sequence_logs(
    world: SequenceWorld, target_GA: np.ndarray, *, num_users: int, seeds: Iterable[int]
) -> Iterable[Estimated]:
    for seed in seeds:
        log = world.log(seed=seed, num_users=num_users, target_GA=target_GA)
        overlap = sequence_overlap(log.sequences, cap=CONFIG.weight_cap)
        yield sequence_estimates(log), sequence.logged_return(log.sequences), overlap.effective_share


def sequence_estimates(log: LoggedSequences) -> dict[str, Contributions]:
    fitted = fitted_q(
        log.sequences, features_SHD=log.features_SHD, expected_features_SHD=log.expected_features_SHD
    )
    return {
        "whole_is": sequence.whole_is(log.sequences),
        "per_decision_is": sequence.per_decision_is(log.sequences),
        "self_normalised": sequence.self_normalised(log.sequences),
        "doubly_robust": sequence.doubly_robust(
            log.sequences, predicted_SH=fitted.predicted_SH, expected_SH=fitted.expected_SH
        ),
        "fitted_q": fitted.contributions,
    }


def coverage(
    logs: Iterable[Estimated], *, truth: float, logged_truth: float, num_resamples: int
) -> dict[str, dict[str, Coverage]]:
    """By estimator and method; no bootstrap for 0 resamples."""
    gain = truth - logged_truth
    rows: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for estimates, logged, _ in logs:
        for name, estimate in estimates.items():
            error = abs(estimate.value / truth - 1)
            of_value = _bounds(estimate, num_resamples)
            of_gain = _bounds(estimate.minus(logged), num_resamples)
            for method, bounds in of_value.items():
                holds = bounds.interval.low <= truth <= bounds.interval.high
                lower = of_gain[method].lower
                row = (holds, bounds.lower <= truth, lower <= gain, lower / gain, error)
                rows.setdefault((name, method), []).append(row)
    found: dict[str, dict[str, Coverage]] = {}
    for (name, method), of_logs in rows.items():
        two, one, gain_one, _, error = np.mean(of_logs, axis=0)
        median = float(np.median([row[3] for row in of_logs]))
        found.setdefault(name, {})[method] = Coverage(two, one, gain_one, median, error)
    return found


def _bounds(estimate: Contributions, num_resamples: int) -> dict[str, Bounds]:
    found = {"t": t_bounds(estimate)}
    return bootstrap_bounds(estimate, num_resamples=num_resamples) | found if num_resamples else found


def bernstein(
    world: DecisionWorld, target_TA: np.ndarray, *, num_users: int, seeds: Iterable[int], cap: float
) -> tuple[float, float]:
    """Share of empirical Bernstein lower bounds of the gain that hold, and their median in true gains."""
    gain = world.value(target_TA) - world.value(world.logging_TA)
    lower = [
        clipped_lower(
            world.log(seed=seed, num_users=num_users, target_TA=target_TA, with_model=False),
            cap=cap,
            most_reward=1.0,
            over_logged=True,
        )
        for seed in seeds
    ]
    return float(np.mean(np.array(lower) <= gain)), float(np.median(lower) / gain)


def rank_correlation(logs_of_targets: list[Iterable[Estimated]], truths: list[float]) -> dict[str, float]:
    """Mean over the logs of Spearman's correlation between estimates and true values of several targets.

    Each entry of `logs_of_targets` is the same logs, with another target policy.
    """
    values = [
        [{name: each.value for name, each in estimates.items()} for estimates, _, _ in logs]
        for logs in logs_of_targets
    ]
    return {
        name: float(
            np.mean(
                [
                    stats.spearmanr([of_target[name] for of_target in of_log], truths).statistic
                    for of_log in zip(*values, strict=True)
                ]
            )
        )
        for name in values[0][0]
    }
