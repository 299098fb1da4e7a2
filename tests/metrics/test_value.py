"""Against hand calculations, sklearn and scipy."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from recsys.metrics.value import (
    decile_mape,
    decile_table,
    decile_wape,
    lift_at_10_percent,
    normalised_gini,
    spearman,
    total_bias,
)


def gini_of_order(actual: np.ndarray) -> float:
    """Gini of values in the given order (highest prediction first): mean Lorenz curve minus the diagonal."""
    n = len(actual)
    return float(np.cumsum(actual).sum() / actual.sum() / n - (n + 1) / (2 * n))


def test_gini_by_hand() -> None:
    actual, predicted = np.array([0.0, 1, 2, 7]), np.array([1.0, 4, 2, 3])
    # In order of prediction: 1, 7, 2, 0 -> shares .1 .8 1 1; in own order: 7, 2, 1, 0 -> .7 .9 1 1.
    ours = (0.1 + 0.8 + 1 + 1) / 4 - 5 / 8
    best = (0.7 + 0.9 + 1 + 1) / 4 - 5 / 8
    assert normalised_gini(actual, predicted) == pytest.approx(ours / best)
    assert normalised_gini(actual, actual) == pytest.approx(1)
    assert normalised_gini(actual, -actual) == pytest.approx(-1)
    assert normalised_gini(actual, np.ones(4)) == pytest.approx(0)
    assert math.isnan(normalised_gini(np.ones(4), predicted))
    assert math.isnan(normalised_gini(np.zeros(0), np.zeros(0)))


def test_gini_of_ties_is_the_mean_over_their_orders() -> None:
    actual, predicted = np.array([5.0, 0, 3, 1, 8]), np.array([2.0, 2, 2, 1, 3])
    best = gini_of_order(np.sort(actual)[::-1])
    orders = [gini_of_order(np.array([8.0, *tied, 1])) / best for tied in itertools.permutations([5.0, 0, 3])]
    assert normalised_gini(actual, predicted) == pytest.approx(np.mean(orders))


def test_gini_of_a_binary_outcome_is_two_auc_minus_one() -> None:
    rng = np.random.default_rng(0)
    actual = (rng.random(500) < 0.2).astype(float)
    predicted = np.round(actual * 0.5 + rng.normal(size=500), 1)
    assert normalised_gini(actual, predicted) == pytest.approx(2 * roc_auc_score(actual, predicted) - 1)


def test_gini_keeps_the_order_of_rows_out() -> None:
    rng = np.random.default_rng(1)
    actual, predicted = rng.exponential(size=100), rng.integers(0, 4, 100)
    shuffled = rng.permutation(100)
    assert normalised_gini(actual, predicted) == pytest.approx(
        normalised_gini(actual[shuffled], predicted[shuffled])
    )


def test_spearman_agrees_with_scipy() -> None:
    rng = np.random.default_rng(2)
    actual = np.maximum(rng.normal(size=300), 0)  # many ties at 0
    predicted = np.round(actual + rng.normal(size=300), 1)
    assert spearman(actual, predicted) == pytest.approx(spearmanr(actual, predicted).statistic)
    assert math.isnan(spearman(actual, np.ones(300)))


def test_lift_by_hand() -> None:
    actual = np.arange(20.0)  # mean 9.5, the highest tenth is 18 and 19
    assert lift_at_10_percent(actual, actual) == pytest.approx(18.5 / 9.5)
    assert lift_at_10_percent(actual, np.ones(20)) == pytest.approx(1)
    assert lift_at_10_percent(actual, np.where(actual >= 16, 1.0, 0.0)) == pytest.approx(17.5 / 9.5)


def test_total_bias_by_hand() -> None:
    assert total_bias(np.array([1.0, 3]), np.array([2.0, 3])) == pytest.approx(0.25)


def test_decile_table_by_hand() -> None:
    predicted = np.arange(20.0)[::-1]
    table = decile_table(predicted * 2, predicted)
    assert table.num_users.tolist() == [2] * 10
    assert table.mean_predicted == pytest.approx(np.arange(10) * 2 + 0.5)
    assert table.mean_actual == pytest.approx(np.arange(10) * 4 + 1)


def test_decile_table_divides_ties_and_keeps_counts_whole() -> None:
    rng = np.random.default_rng(3)
    actual = rng.random(103)
    table = decile_table(actual, np.full(103, 0.4))
    assert table.num_users.sum() == 103
    assert set(table.num_users.tolist()) == {10, 11}
    assert table.mean_actual == pytest.approx(np.full(10, actual.mean()))


def test_decile_errors_by_hand() -> None:
    predicted = np.arange(1.0, 11)
    actual = predicted * 2  # every decile is half of what it should be
    assert decile_mape(actual, predicted) == pytest.approx(0.5)
    assert decile_wape(actual, predicted) == pytest.approx(0.5)
    actual = np.where(predicted == 1, 0, predicted)  # one decile without value: 1 of 54 wrong
    assert decile_mape(actual, predicted) == pytest.approx(0)
    assert decile_wape(actual, predicted) == pytest.approx(1 / 54)
