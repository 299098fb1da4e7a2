"""Bounds over many logs of a market: they hold the truth as often as they say, and are not vacuous."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from recsys.policy.off_policy.bounds import t_bounds
from recsys.policy.off_policy.single_step import logged
from tests.policy.off_policy.study import (
    METHODS,
    Coverage,
    bernstein,
    coverage,
    decision_logs,
    rank_correlation,
    sequence_logs,
)
from tests.policy.off_policy.worlds import DecisionWorld, SequenceWorld

DECISIONS = DecisionWorld.make()
SEQUENCES = SequenceWorld.make()
TOWARDS_CLICKS, TOWARDS_PLEASING = 20.0, 1.0


def check(found: Coverage, where: str) -> None:
    assert 0.90 <= found.two_sided <= 0.97, where
    assert 0.93 <= found.one_sided <= 0.98, where
    assert 0.93 <= found.gain_one_sided <= 0.98, where
    assert found.median_gain_bound >= 0.5, where


def decision_coverage(
    *, num_logs: int, num_resamples: int, with_model: bool
) -> dict[str, dict[str, Coverage]]:
    return coverage(
        decision_logs(
            DECISIONS,
            DECISIONS.target(TOWARDS_CLICKS),
            num_users=1000,
            seeds=range(num_logs),
            with_model=with_model,
        ),
        truth=DECISIONS.value(DECISIONS.target(TOWARDS_CLICKS)),
        logged_truth=DECISIONS.value(DECISIONS.logging_TA),
        num_resamples=num_resamples,
    )


def sequence_coverage(*, num_logs: int, num_resamples: int) -> dict[str, dict[str, Coverage]]:
    return coverage(
        sequence_logs(SEQUENCES, SEQUENCES.target(TOWARDS_PLEASING), num_users=1000, seeds=range(num_logs)),
        truth=SEQUENCES.value(SEQUENCES.target(TOWARDS_PLEASING)),
        logged_truth=SEQUENCES.value(SEQUENCES.logging_GA),
        num_resamples=num_resamples,
    )


def test_t_holds_the_truth_of_single_decisions() -> None:
    found = decision_coverage(num_logs=400, num_resamples=0, with_model=False)
    for name in ("ips", "snips"):
        check(found[name]["t"], name)
        assert found[name]["t"].relative_error < 0.05


def test_t_holds_the_truth_of_sequences() -> None:
    found = sequence_coverage(num_logs=400, num_resamples=0)
    for name in ("per_decision_is", "self_normalised", "doubly_robust", "fitted_q"):
        check(found[name]["t"], name)
        assert found[name]["t"].relative_error < 0.03


def test_users_taken_for_independent_rows_would_not_hold_it() -> None:
    """What clustering is for: visits of a user share a mood, and the error of single rows is too small."""
    truth = DECISIONS.value(DECISIONS.logging_TA)
    holds = []
    for seed in range(1000):
        log = DECISIONS.log(seed=seed, num_users=1000, target_TA=DECISIONS.logging_TA, with_model=False)
        alone = dataclasses.replace(log, user_R=np.arange(len(log.user_R)))
        each = [t_bounds(logged(rows)).interval for rows in (log, alone)]
        holds.append([interval.low <= truth <= interval.high for interval in each])
    clustered, by_row = np.mean(holds, axis=0)
    assert 0.93 <= clustered <= 0.97
    assert by_row < 0.90


def test_bernstein_holds_always_and_is_not_vacuous_with_enough_users() -> None:
    held, median = bernstein(
        DECISIONS, DECISIONS.target(TOWARDS_CLICKS), num_users=5000, seeds=range(200), cap=10.0
    )
    assert held >= 0.95
    assert median >= 0.5


def test_policies_are_ranked_as_their_true_values_are() -> None:
    """Eight policies of one kind, the true values of which span a tenth."""
    targets = DECISIONS.lookalikes(8)
    truths = [DECISIONS.value(target) for target in targets]
    found = rank_correlation(
        [
            decision_logs(DECISIONS, target, num_users=1000, seeds=range(20), with_model=False)
            for target in targets
        ],
        truths,
    )
    assert max(truths) / min(truths) < 1.1
    assert found["snips"] > 0.9


@pytest.mark.slow
def test_every_method_holds_the_truth_of_single_decisions() -> None:
    found = decision_coverage(num_logs=400, num_resamples=400, with_model=True)
    for name in ("ips", "snips", "dr", "sndr", "switch_dr"):
        for method in METHODS:
            check(found[name][method], f"{name} {method}")
    assert found["dm"]["t"].two_sided < 0.5, (
        "a reward model that knows no moods is biased, and its interval narrow"
    )


@pytest.mark.slow
def test_every_method_holds_the_truth_of_sequences() -> None:
    found = sequence_coverage(num_logs=400, num_resamples=400)
    for name in ("per_decision_is", "self_normalised", "doubly_robust", "fitted_q"):
        for method in METHODS:
            check(found[name][method], f"{name} {method}")
