"""On made users whose rates are known; what was never watched is carried on by hand-computed ratios."""

import numpy as np
import pytest

from recsys.baselines.boosted_trees import BoostedTrees, WatchedCuts, boosted_features
from recsys.metrics.calibration import expected_calibration_error
from recsys.metrics.value import decile_mape, normalised_gini, total_bias
from recsys.schema import InputError, UserNumeric

HORIZONS_DAYS = np.array([30.0, 90.0])


def made_users(
    num_users: int, *, seed: int, tenure_days: tuple[float, float] = (40, 300)
) -> tuple[np.ndarray, WatchedCuts]:
    """(spend per day, activity and outcomes) of users who buy at their own rate and never leave."""
    rng = np.random.default_rng(seed)
    tenure = rng.uniform(*tenure_days, num_users)
    rate, money = rng.gamma(0.6, 0.06, num_users), 10 + rng.gamma(3, 10, num_users)
    orders = 1 + rng.poisson(rate * tenure)
    last = np.minimum(rng.exponential(1 / np.maximum(rate, 1e-3)), tenure)
    spend = orders * money
    column = {
        UserNumeric.NUM_EVENTS: 3 * orders,
        UserNumeric.NUM_ORDERS: orders,
        UserNumeric.NUM_ACTIVE_DAYS: orders,
        UserNumeric.RECENCY_DAYS: last,
        UserNumeric.TENURE_DAYS: tenure,
        UserNumeric.SPEND: spend,
        UserNumeric.SPEND_30D: spend * np.minimum(30 / tenure, 1),
        UserNumeric.SPEND_90D: spend * np.minimum(90 / tenure, 1),
    }
    activity = np.column_stack([column[name] for name in UserNumeric.ALL]).astype(float)
    first = rng.poisson(rate * 30)
    both = np.column_stack([first, first + rng.poisson(rate * 60)])
    happened = (both > 0).astype(float)
    return rate * money, WatchedCuts(activity, both * money[:, None], happened, happened)


def test_it_learns_order_level_and_chance() -> None:
    _, past = made_users(6000, seed=0)
    per_day, now = made_users(4000, seed=1)
    trees = BoostedTrees(past=past, activity_UA=now.activity)
    spend_UH = trees.spend()
    assert spend_UH.shape == (4000, 2)
    for h, days in enumerate(HORIZONS_DAYS):
        assert normalised_gini(now.spend[:, h], spend_UH[:, h]) > 0.5
        assert abs(total_bias(per_day * days, spend_UH[:, h])) < 0.08
        assert decile_mape(per_day * days, spend_UH[:, h]) < 0.25
        assert expected_calibration_error(now.returned[:, h], trees.chance_of_return()[:, h]) < 0.03
    assert trees.chance_of_purchase() == pytest.approx(trees.chance_of_return()[:, 0])  # the same labels


def test_two_fits_are_the_same_to_the_last_bit() -> None:
    _, past = made_users(800, seed=0)
    _, now = made_users(300, seed=1)
    first, second = (BoostedTrees(past=past, activity_UA=now.activity).spend() for _ in range(2))
    np.testing.assert_array_equal(first, second)


def without(past: WatchedCuts, h: int, *, but: int = 0) -> WatchedCuts:
    """The same pairs, horizon h watched for the first `but` only."""
    columns = [past.activity]
    for column in (past.spend, past.returned, past.bought):
        columns.append(column.copy())
        columns[-1][but:, h] = np.nan
    return WatchedCuts(*columns)


def test_a_horizon_never_watched_is_carried_on_by_the_decay() -> None:
    _, past = made_users(800, seed=0)
    _, now = made_users(200, seed=1)
    decay_UH = np.tile([2.0, 5.0], (200, 1))
    decay_UH[0] = [40.0, 100.0]  # totals count, not each user's own ratio
    trees = BoostedTrees(past=without(past, 1), activity_UA=now.activity, decay_UH=decay_UH)
    spend_UH, chance_UH = trees.spend(), trees.chance_of_return()
    assert spend_UH[:, 1] == pytest.approx(spend_UH[:, 0] * 2.5)
    assert 1 - chance_UH[:, 1] == pytest.approx((1 - chance_UH[:, 0]) ** 2.5)
    alone = BoostedTrees(past=without(past, 1), activity_UA=now.activity)
    assert np.isnan(alone.spend()[:, 1]).all()
    np.testing.assert_array_equal(alone.spend()[:, 0], spend_UH[:, 0])


def test_a_shorter_horizon_is_not_made_of_a_longer_one() -> None:
    _, past = made_users(800, seed=0)
    trees = BoostedTrees(past=without(past, 0), activity_UA=past.activity, decay_UH=np.ones((800, 2)))
    assert np.isnan(trees.spend()[:, 0]).all()
    assert np.isfinite(trees.spend()[:, 1]).all()


def test_a_hundred_pairs_are_needed() -> None:
    _, past = made_users(400, seed=0)
    just = without(without(past, 0, but=100), 1, but=99)
    trees = BoostedTrees(past=just, activity_UA=past.activity)
    assert np.isfinite(trees.spend()[:, 0]).all()
    assert np.isnan(trees.spend()[:, 1]).all()
    with pytest.raises(InputError, match="boosted trees need 100 users of earlier cuts"):
        BoostedTrees(past=without(without(past, 0), 1), activity_UA=past.activity)


def test_outcomes_that_are_all_alike_are_said_again() -> None:
    _, past = made_users(300, seed=0)
    alike = WatchedCuts(past.activity, np.zeros((300, 2)), np.ones((300, 2)), np.zeros((300, 2)))
    trees = BoostedTrees(past=alike, activity_UA=past.activity)
    assert (trees.spend() == 0).all()
    assert (trees.chance_of_return() == 1).all()
    assert (trees.chance_of_purchase() == 0).all()


def test_returned_money_counts_as_none() -> None:
    _, past = made_users(300, seed=0)
    refunded = WatchedCuts(past.activity, -np.abs(past.spend), past.returned, past.bought)
    assert (BoostedTrees(past=refunded, activity_UA=past.activity).spend() == 0).all()


def test_thinning_keeps_pairs_whole() -> None:
    _, past = made_users(10, seed=0)
    thin = past.thinned(4)
    assert len(thin.activity) == 4
    np.testing.assert_array_equal(thin.spend, past.spend[[0, 3, 6, 9]])
    np.testing.assert_array_equal(thin.activity, past.activity[[0, 3, 6, 9]])


def test_features_of_a_user_without_history_are_finite() -> None:
    features = boosted_features(np.full((1, len(UserNumeric.ALL)), np.nan))
    assert np.isfinite(features).all()


def test_labels_dealt_to_other_users_teach_nothing() -> None:
    """Over some deals: a single one may order users a little by chance, with either sign."""
    _, made = made_users(2000, seed=0)
    past = without(made, 1)
    _, now = made_users(2000, seed=1)
    rng = np.random.default_rng(2)
    ginis = []
    for _ in range(12):
        dealt = rng.permutation(len(past.activity))
        shuffled = WatchedCuts(past.activity, past.spend[dealt], past.returned[dealt], past.bought[dealt])
        trees = BoostedTrees(past=shuffled, activity_UA=now.activity)
        ginis.append(normalised_gini(now.spend[:, 0], trees.spend()[:, 0]))
    error = np.std(ginis, ddof=1) / np.sqrt(len(ginis))
    assert abs(np.mean(ginis)) < 3 * error + 0.01
    learned = BoostedTrees(past=past, activity_UA=now.activity).spend()[:, 0]
    assert normalised_gini(now.spend[:, 0], learned) > 0.5
