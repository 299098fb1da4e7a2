"""The critic finds what moves the future where something does, and little where nothing does."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.policy.advantage import Advantage, CriticConfig, cross_fitted, fit_advantage
from recsys.schema import InputError
from tests.policy.logs import TYPES, drawn, moment

CONFIG = CriticConfig(horizon_days=14)


def fitted(effect: float, *, seed: int = 0, num_users: int = 300, **changes: object) -> Advantage:
    log = drawn(effect, num_users=num_users, seed=seed)
    settings = {"num_items": 20, "until": moment(120) - 1, "event_types": TYPES, "config": CONFIG}
    return fit_advantage(log, **(settings | changes))


def effect_of_a_read(found: Advantage) -> tuple[float, float]:
    """Against a view, with its error: the commoner of the two is what the other is told from."""
    name, sign = ("read", 1) if "effect/read" in found.figures else ("view", -1)
    return sign * found.figures[f"effect/{name}"], found.figures[f"error/{name}"]


def test_items_that_bring_users_back_are_told_from_those_that_do_not() -> None:
    found = fitted(0.7)
    assert found.figures["reliability"] > 0.9
    assert (found.item_V[11:] > 0).all()
    assert (found.item_V[1:11] < 0).all()
    assert found.item_V[0] == 0
    assert np.abs(found.item_V).max() <= 1
    effect, error = effect_of_a_read(found)
    assert effect > 2 * error


def test_where_nothing_moves_the_future_the_advantage_is_small() -> None:
    """The factor is 0 for about half of all logs, its mean far below what a true effect reaches."""
    reliability = [fitted(0.0, seed=seed).figures["reliability"] for seed in range(12)]
    assert np.mean(reliability) < 0.35
    assert sum(factor == 0 for factor in reliability) >= 4


def test_errors_cover_the_effect_of_nothing() -> None:
    found = [effect_of_a_read(fitted(0.0, seed=seed)) for seed in range(12)]
    z = [effect / error for effect, error in found]
    assert np.abs(z).max() < 4
    assert 0.4 < np.std(z) < 2.0


def test_nothing_after_the_end_is_learned() -> None:
    log = drawn(0.7, num_users=200, seed=1)
    kept = log.timestamp < moment(80)
    shuffled = log.__class__(
        **(
            vars(log)
            | {
                "item_index": np.where(kept, log.item_index, 1),
                "event_type": np.where(kept, log.event_type, 1),
            }
        )
    )
    settings = {"num_items": 20, "until": moment(80) - 1, "event_types": TYPES, "config": CONFIG}
    np.testing.assert_array_equal(
        fit_advantage(log, **settings).item_V, fit_advantage(shuffled, **settings).item_V
    )


def test_folds_learn_from_other_users_only() -> None:
    """With the futures of odd users turned round, only the critic that is judged on even users may change."""
    log = drawn(0.7, num_users=300, seed=2)
    settings = {"num_items": 20, "until": moment(120) - 1, "event_types": TYPES, "config": CONFIG}
    folds_FV = cross_fitted(log, **settings)
    assert folds_FV.shape == (2, 21)
    for fold in (0, 1):
        learns_U = np.arange(1, 301) % 2 != fold
        alone = fit_advantage(log, **settings, learns_U=learns_U)
        np.testing.assert_array_equal(folds_FV[fold], alone.item_V)
    assert not np.array_equal(folds_FV[0], folds_FV[1])


def test_scores_turn_by_dial_times_user_times_item() -> None:
    advantage = Advantage(np.array([0.0, 0.5, -1.0], np.float32), np.zeros(10), 0.0, 1.0, {})
    score_BV = np.array([[-np.inf, 1.0, 2.0, 3.0]], np.float32)
    turned = advantage.scores(score_BV, np.array([2.0], np.float32), dial=0.5)
    assert turned.tolist() == [[-np.inf, 1.5, 1.0, 3.0]], "the fourth item is newer than the critic"
    assert advantage.scores(score_BV, np.array([2.0], np.float32), dial=0) is score_BV


def test_the_best_of_joined_vectors_are_the_best_of_turned_scores() -> None:
    """[user ; dial a(u)] . [item ; b(i)] ranks as the scores do, so that nearest neighbours can be looked
    up.
    """
    random = np.random.default_rng(0)
    user_BS, item_VS = random.normal(size=(4, 6)), random.normal(size=(30, 6))
    weight_B = random.uniform(0.5, 2, 4).astype(np.float32)
    effect_V = random.uniform(-1, 1, 30).astype(np.float32)
    advantage = Advantage(effect_V, np.zeros(10), 0.0, 1.0, {})
    turned_BV = advantage.scores((user_BS @ item_VS.T).astype(np.float32), weight_B, dial=0.7)
    joined_BV = np.c_[user_BS, 0.7 * weight_B] @ np.c_[item_VS, effect_V].T
    assert turned_BV == pytest.approx(joined_BV, abs=1e-5)


def test_users_who_come_more_weigh_more() -> None:
    log = drawn(0.7, num_users=300, seed=3, spread=1.0)
    advantage = fit_advantage(log, num_items=20, until=moment(120) - 1, event_types=TYPES, config=CONFIG)
    weight_U = advantage.user_weights(log, np.arange(1, 301), moment(120) - 1, event_types=TYPES)
    counts_U = np.diff(log.offsets)
    assert np.corrcoef(weight_U, counts_U)[0, 1] > 0.5
    assert 0.4 < weight_U.mean() < 1.6


def test_a_round_trip_through_arrays_keeps_it() -> None:
    before = fitted(0.7)
    after = Advantage.of_arrays(before.arrays())
    log = drawn(0.7, num_users=50, seed=4)
    for one, other in ((before, after), (after, before)):
        np.testing.assert_array_equal(one.item_V, other.item_V)
    users_U = np.arange(1, 51)
    np.testing.assert_array_equal(
        *(a.user_weights(log, users_U, moment(120), event_types=TYPES) for a in (before, after))
    )


def test_a_short_log_is_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match=r"dial\.critic\.horizon_days"):
        fitted(0.7, num_users=10, config=CriticConfig(horizon_days=100))
