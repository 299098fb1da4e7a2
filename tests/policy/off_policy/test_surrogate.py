"""The surrogate index: its regression by hand, and its value in a market where the truth is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from recsys.policy.off_policy.surrogate import SurrogateIndex, surrogacy_gap, surrogate_value
from recsys.schema import InputError
from tests.policy.off_policy.worlds import LoggedSequences, SequenceWorld

MOODY = SequenceWorld.make()
# Without moods, which last and which no surrogate tells from what the policy did.
WORLD = dataclasses.replace(MOODY, mood_spread=0.0)
SHORT = 2  # steps that the target policy acts on; the logging policy goes on after them
TARGET = WORLD.target(2.0)
TRUTH = WORLD.value(TARGET, WORLD.logging_GA, after=SHORT)


def short_term(log: LoggedSequences) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of one sequence a user: the surrogates (what was earned, and the state reached), outcome, weight."""
    sequences = log.sequences
    earned_S = sequences.discounted_reward_SH[:, :SHORT].sum(axis=1)
    reached_SG = log.state_SHG[:, SHORT] * sequences.mask_SH[:, SHORT, None]
    outcome_S = sequences.discounted_reward_SH.sum(axis=1)
    weight_S = sequences.cumulative_weight_SH[:, SHORT - 1]
    one_each = slice(None, None, 2)
    return np.column_stack([earned_S, reached_SG])[one_each], outcome_S[one_each], weight_S[one_each]


def test_regression_by_hand() -> None:
    """Two points at 0 (outcomes 1, 3) and two at 1 (4, 4): constant 2, slope 2; errors 1, 1, 0, 0."""
    index = SurrogateIndex.fit(
        surrogates_UD=np.array([[0.0], [0.0], [1.0], [1.0]]), outcome_U=np.array([1.0, 3.0, 4.0, 4.0])
    )
    np.testing.assert_allclose(index.coefficient, [2.0, 2.0])
    np.testing.assert_allclose(index.covariance, [[0.5, -0.5], [-0.5, 0.5]], atol=1e-12)
    np.testing.assert_allclose(index.predict(np.array([[0.5]])), [3.0])


def test_value_by_hand() -> None:
    """Index 2 and 4 under weights 3 and 1; the fit's variance at a mean surrogate of 1/4 is 0.5 (3/4)^2."""
    index = SurrogateIndex(np.array([2.0, 2.0]), np.array([[0.5, -0.5], [-0.5, 0.5]]))
    found = surrogate_value(index, surrogates_UD=np.array([[0.0], [1.0]]), weight_U=np.array([3.0, 1.0]))
    assert found.interval.value == pytest.approx(2.5)
    influence_U = np.array([3 * (2 - 2.5), 1 * (4 - 2.5)]) / 2
    error = np.sqrt(influence_U.var(ddof=1) / 2 + 0.5 * 0.75**2)
    assert found.lower == pytest.approx(2.5 - 6.313751514675043 * error)  # Student's t, 1 degree of freedom


def test_surrogates_that_add_up_are_refused() -> None:
    with pytest.raises(InputError, match="2 surrogates of 5 users do not determine"):
        SurrogateIndex.fit(surrogates_UD=np.ones((5, 2)), outcome_U=np.arange(5.0))


def test_covers_the_truth_where_surrogacy_holds() -> None:
    """400 pairs of an old log, whose outcome is known, and a new one with nothing but the surrogates."""
    is_covered, is_above, gap_is_covered = [], [], []
    for seed in range(400):
        old = short_term(WORLD.log(seed=2 * seed, num_users=600, target_GA=TARGET))
        new = short_term(WORLD.log(seed=2 * seed + 1, num_users=600, target_GA=TARGET))
        index = SurrogateIndex.fit(surrogates_UD=old[0], outcome_U=old[1])
        found = surrogate_value(index, surrogates_UD=new[0], weight_U=new[2])
        gap = surrogacy_gap(index, surrogates_UD=old[0], outcome_U=old[1], weight_U=old[2])
        is_covered.append(found.interval.low <= TRUTH <= found.interval.high)
        is_above.append(found.lower <= TRUTH)
        gap_is_covered.append(gap.interval.low <= 0 <= gap.interval.high)
    assert 0.90 <= np.mean(is_covered) <= 0.97
    assert 0.93 <= np.mean(is_above) <= 0.98
    assert np.mean(gap_is_covered) >= 0.90


def test_a_gap_shows_where_the_surrogates_miss_what_the_policy_does() -> None:
    """Without the state reached, most of what the target policy does for later is missed."""
    surrogates_UD, outcome_U, weight_U = short_term(WORLD.log(seed=3, num_users=6000, target_GA=TARGET))
    earned_UD = surrogates_UD[:, :1]
    index = SurrogateIndex.fit(surrogates_UD=earned_UD, outcome_U=outcome_U)
    gap = surrogacy_gap(index, surrogates_UD=earned_UD, outcome_U=outcome_U, weight_U=weight_U)
    assert gap.lower > 0
