"""Fitted-Q evaluation: exact where it must be, and its influence against what a user's removal does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from recsys.policy.off_policy.fitted_q import fitted_q
from recsys.policy.off_policy.sequences import Sequences, logged_return
from tests.policy.off_policy.worlds import LoggedSequences, SequenceWorld

WORLD = SequenceWorld.make()


def fitted(log: LoggedSequences, *, penalty: float) -> float:
    return fitted_q(
        log.sequences,
        features_SHD=log.features_SHD,
        expected_features_SHD=log.expected_features_SHD,
        penalty=penalty,
    ).contributions.value


def test_by_hand_in_a_world_without_chance() -> None:
    """One state, actions that pay 1 and 3; the target takes the second three times in four: 2.5 a step."""
    action_SH = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [1, 0]])
    shape = (*action_SH.shape, 2)
    found = fitted_q(
        Sequences(
            user_S=np.arange(5),
            mask_SH=np.ones(action_SH.shape, dtype=bool),
            reward_SH=np.where(action_SH == 1, 3.0, 1.0),
            propensity_SH=np.full(action_SH.shape, 0.5),
            target_propensity_SH=np.where(action_SH == 1, 0.75, 0.25),
            discount=0.9,
        ),
        features_SHD=np.eye(2)[action_SH],
        expected_features_SHD=np.broadcast_to([0.25, 0.75], shape),
        penalty=1e-9,
    )
    assert found.contributions.value == pytest.approx(2.5 + 0.9 * 2.5, rel=1e-6)
    np.testing.assert_allclose(found.expected_SH, np.tile([4.75, 2.5], (5, 1)), rtol=1e-6)
    np.testing.assert_allclose(found.predicted_SH[0], [1 + 0.9 * 2.5, 1.0], rtol=1e-6)


def test_a_target_that_acts_as_was_logged_is_worth_what_was_earned() -> None:
    log = WORLD.log(seed=1, num_users=300, target_GA=WORLD.target(1.0))
    as_logged = dataclasses.replace(log, expected_features_SHD=log.features_SHD)
    assert fitted(as_logged, penalty=1e-6) == pytest.approx(logged_return(log.sequences).value, rel=1e-4)


def test_influence_is_what_leaving_a_user_out_does() -> None:
    num_users = 400
    log = WORLD.log(seed=2, num_users=num_users, target_GA=WORLD.target(1.0))
    whole = fitted_q(
        log.sequences,
        features_SHD=log.features_SHD,
        expected_features_SHD=log.expected_features_SHD,
        penalty=1e-6,
    ).contributions
    moved = []
    for user in range(25):
        kept_S = log.sequences.user_S != user
        parts = {
            name: getattr(log.sequences, name)[kept_S]
            for name in ("user_S", "mask_SH", "reward_SH", "propensity_SH", "target_propensity_SH")
        }
        without = LoggedSequences(
            Sequences(**parts, discount=log.sequences.discount),
            log.state_SHG[kept_S],
            log.features_SHD[kept_S],
            log.expected_features_SHD[kept_S],
        )
        moved.append((whole.value - fitted(without, penalty=1e-6)) * (num_users - 1))
    np.testing.assert_allclose(whole.influence_U[:25], moved, atol=0.25)
    assert np.corrcoef(whole.influence_U[:25], moved)[0, 1] > 0.995
