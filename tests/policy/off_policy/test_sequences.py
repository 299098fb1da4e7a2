"""Sequences: by hand, by enumeration of every slate that a policy can draw, and against obp's figures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from recsys.policy.off_policy.decisions import Decisions
from recsys.policy.off_policy.sequences import (
    Sequences,
    doubly_robust,
    logged_return,
    per_decision_is,
    self_normalised,
    slates_as_sequences,
    whole_is,
)
from recsys.policy.off_policy.single_step import ips
from recsys.policy.slates import PolicyConfig, slate_propensities
from recsys.schema import InputError
from tests.policy.off_policy.test_single_step import PROPENSITY, REWARD


def two_sequences(**changes: object) -> Sequences:
    """Weights 2, 0.5 and then 3; the first sequence ends after one step."""
    settings = {
        "user_S": np.array([7, 9]),
        "mask_SH": np.array([[True, False], [True, True]]),
        "reward_SH": np.array([[1.0, np.nan], [2.0, 4.0]]),
        "propensity_SH": np.array([[0.25, np.nan], [0.5, 0.2]]),
        "target_propensity_SH": np.array([[0.5, np.nan], [0.25, 0.6]]),
        "discount": 0.5,
    }
    return Sequences(**(settings | changes))


def test_cumulative_weights_stay_after_the_end() -> None:
    np.testing.assert_allclose(two_sequences().cumulative_weight_SH, [[2.0, 2.0], [0.5, 1.5]])


def test_estimates_by_hand() -> None:
    log = two_sequences()
    assert logged_return(log).value == pytest.approx((1 + 2 + 0.5 * 4) / 2)
    assert whole_is(log).value == pytest.approx((2 * 1 + 1.5 * (2 + 0.5 * 4)) / 2)
    assert per_decision_is(log).value == pytest.approx((2 * 1 + 0.5 * 2 + 0.5 * 1.5 * 4) / 2)
    assert self_normalised(log).value == pytest.approx((2 + 1) / 2.5 + 0.5 * (1.5 * 4) / 3.5)


def test_doubly_robust_by_hand() -> None:
    """Q of 1 everywhere and V of 3 and 2: 3 + 2 (1 - 1); 3 + 0.5 (2 - 1) + 0.5 (0.5 * 2 + 1.5 (4 - 1))."""
    found = doubly_robust(
        two_sequences(),
        predicted_SH=np.ones((2, 2)),
        expected_SH=np.array([[3.0, 9.0], [3.0, 2.0]]),
    )
    assert found.value == pytest.approx((3.0 + (3.5 + 0.5 * (1.0 + 4.5))) / 2)


def test_doubly_robust_without_a_model_is_per_decision() -> None:
    zeros = np.zeros((2, 2))
    found = doubly_robust(two_sequences(), predicted_SH=zeros, expected_SH=zeros)
    assert found.value == pytest.approx(per_decision_is(two_sequences()).value)


def test_sequences_of_one_user_are_one_cluster() -> None:
    log = two_sequences(user_S=np.array([7, 7]))
    assert per_decision_is(log).num_users == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_SH": np.array([[False, True], [True, True]])}, "empty or has a gap"),
        ({"reward_SH": np.array([[np.nan, 0.0], [1.0, 1.0]])}, "reward of a sequence"),
        ({"propensity_SH": np.array([[np.nan, 0.0], [1.0, 1.0]])}, "without a propensity"),
        ({"discount": 0.0}, "discount"),
        ({"reward_SH": np.zeros((2, 3))}, "reward_SH has shape"),
    ],
)
def test_sequences_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        two_sequences(**changes)


def test_figures_of_obp_for_slates() -> None:
    """obp 0.5.7 on four slates of three slots: SlateRewardInteractionIPS and SlateStandardIPS."""
    slots = Decisions(
        user_R=np.repeat(np.arange(4), 3),
        slate_R=np.repeat(np.arange(4), 3),
        slot_R=np.tile([1, 2, 3], 4),
        action_R=np.arange(1, 13),
        reward_R=REWARD,
        propensity_R=PROPENSITY,
        target_propensity_R=np.array([0.4, 0.47, 0.71, 0.34, 0.51, 0.58, 0.35, 0.46, 0.64, 0.74, 0.21, 0.75]),
    )
    assert per_decision_is(slates_as_sequences(slots)).value == pytest.approx(5.2851343058723455, rel=1e-12)
    assert whole_is(slates_as_sequences(slots)).value == pytest.approx(6.094857825772683, rel=1e-12)


def every_slate() -> tuple[Decisions, np.ndarray, np.ndarray]:
    """All twelve slates of two out of four items, a row of the log each, and both policies' chance of each.

    The reward of slot 1 is 1, 2, 3, 4 by item; that of slot 2 is its item's plus the item above it, a tenth.
    """
    scores = {"logging": [0.5, 0.0, -0.5, 0.2], "target": [-0.5, 0.0, 1.0, 2.0]}
    item_BK = np.array(list(itertools.permutations((1, 2, 3, 4), 2)))
    config = PolicyConfig(kind="plackett_luce", slate_size=2, temperature=0.8, exploration_floor=0.1)
    logging_BK, target_BK = (
        slate_propensities(
            scores_BV=np.tile(np.array([-np.inf, *score]), (12, 1)), item_BK=item_BK, config=config
        )
        for score in scores.values()
    )
    reward_BK = item_BK + np.stack([np.zeros(12), item_BK[:, 0] / 10], axis=1)
    return (
        Decisions(
            user_R=np.repeat(np.arange(12), 2),
            slate_R=np.repeat(np.arange(12), 2),
            slot_R=np.tile([1, 2], 12),
            action_R=item_BK.ravel(),
            reward_R=reward_BK.ravel(),
            propensity_R=logging_BK.ravel(),
            target_propensity_R=target_BK.ravel(),
        ),
        logging_BK.prod(axis=1),
        target_BK.prod(axis=1),
    )


def test_cascade_and_whole_slates_are_unbiased_over_every_slate_that_can_be_drawn() -> None:
    slots, logging_B, target_B = every_slate()
    truth = (target_B * slots.reward_R.reshape(12, 2).sum(axis=1)).sum()
    for estimate in (per_decision_is, whole_is):
        mean = logging_B @ estimate(slates_as_sequences(slots)).numerator_UT[:, 0]
        assert mean == pytest.approx(truth, rel=1e-12), estimate.__name__


def test_slots_alone_value_a_policy_that_changes_one_slot_and_keeps_the_others() -> None:
    """Slot 1 by the target, plus slot 2 by the target under a first slot drawn by the logging policy."""
    slots, logging_B, target_B = every_slate()
    reward_BK = slots.reward_R.reshape(12, 2)
    target_second_B = slots.target_propensity_R.reshape(12, 2)[:, 1]
    logging_first_B = slots.propensity_R.reshape(12, 2)[:, 0]
    changed_alone = target_B @ reward_BK[:, 0] + (logging_first_B * target_second_B) @ reward_BK[:, 1]
    assert logging_B @ ips(slots).numerator_UT[:, 0] == pytest.approx(changed_alone, rel=1e-12)
    whole_change = target_B @ reward_BK.sum(axis=1)
    assert abs(changed_alone / whole_change - 1) > 0.02, (
        "the two questions differ where items exclude each other"
    )
