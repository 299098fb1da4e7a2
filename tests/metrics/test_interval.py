"""Against plain loops, other libraries' weighted figures and known distributions."""

import math
import time

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from recsys.metrics import calibration, value
from recsys.metrics.interval import (
    Interval,
    bootstrap,
    mean_interval,
    mean_intervals,
    paired_difference,
    paired_statistic_difference,
)
from recsys.metrics.statistic import Statistic

STATISTICS = [
    value.normalised_gini,
    value.spearman,
    value.lift_at_10_percent,
    value.total_bias,
    value.decile_mape,
    value.decile_wape,
    calibration.roc_auc,
    calibration.brier,
    calibration.expected_calibration_error,
]


def test_an_interval_holds_its_figure() -> None:
    """Resampling adds to an error of deciles: its plain quantiles would lie above the figure."""
    actual_U = np.exp(np.random.default_rng(0).normal(size=400) * 1.5)
    for predicted_U in (actual_U, np.arange(400.0) + 1):
        for statistic in (value.decile_mape, value.decile_wape):
            found = bootstrap(statistic, actual_U, predicted_U)
            assert found.low <= found.value <= found.high
    both = paired_statistic_difference(value.decile_mape, actual_U, actual_U * 1.3, np.arange(400.0) + 1)
    assert both.low <= both.value <= both.high
    constant = mean_interval(np.full(7, 0.1))
    assert constant.low <= constant.value <= constant.high


def test_a_moved_interval_ends_where_the_figure_must() -> None:
    """A few large outcomes: resamples spread so far that the moved quantile would say an error below 0."""
    rng = np.random.default_rng(3)
    predicted_U = np.exp(rng.normal(size=60))
    actual_U = predicted_U * np.exp(2 * rng.normal(size=60) - 2)
    actual_U *= predicted_U.sum() / actual_U.sum()
    found = bootstrap(value.decile_mape, actual_U, predicted_U)
    unbounded = Statistic(lambda a, p, w: value.decile_mape.resampled(a, p, weight_RU=w), centred=True)
    assert bootstrap(unbounded, actual_U, predicted_U).low < 0
    assert found.low == 0
    assert found.high == bootstrap(unbounded, actual_U, predicted_U).high


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda s: s.__name__)
def test_weights_equal_repeated_rows(statistic: Statistic) -> None:
    rng = np.random.default_rng(0)
    predicted = np.round(rng.random(57), 1)
    actual = (rng.random(57) < predicted).astype(float)
    weight_RU = rng.integers(0, 4, size=(5, 57)).astype(float)
    drawn = [np.repeat(np.arange(57), weights.astype(int)) for weights in weight_RU]
    expected = [statistic(actual[rows], predicted[rows]) for rows in drawn]
    assert statistic.resampled(actual, predicted, weight_RU=weight_RU) == pytest.approx(expected)


def test_weighted_auc_agrees_with_sklearn() -> None:
    rng = np.random.default_rng(1)
    actual, predicted = rng.integers(0, 2, 80), np.round(rng.random(80), 1)
    weights = rng.integers(0, 3, 80)
    found = calibration.roc_auc.resampled(actual, predicted, weight_RU=weights[None].astype(float))
    assert found[0] == pytest.approx(roc_auc_score(actual, predicted, sample_weight=weights))


def test_fast_and_plain_paths_give_the_same_interval() -> None:
    rng = np.random.default_rng(2)
    actual, a, b = rng.exponential(size=(3, 90))
    plain = lambda y, p: value.normalised_gini(y, p)  # noqa: E731
    for fast, slow in [
        (
            bootstrap(value.normalised_gini, actual, a, num_resamples=50),
            bootstrap(plain, actual, a, num_resamples=50),
        ),
        (
            paired_statistic_difference(value.normalised_gini, actual, a, b, num_resamples=50),
            paired_statistic_difference(plain, actual, a, b, num_resamples=50),
        ),
        (mean_interval(a, num_resamples=50), bootstrap(np.mean, a, num_resamples=50)),
    ]:
        assert fast.as_dict() == pytest.approx(slow.as_dict())


def test_interval_of_a_normal_mean_has_the_known_width_and_coverage() -> None:
    rng = np.random.default_rng(3)
    widths, num_covered = [], 0
    for trial in range(200):
        interval = mean_interval(rng.normal(5.0, 2.0, size=100), num_resamples=300, seed=trial)
        widths.append(interval.high - interval.low)
        num_covered += interval.low <= 5.0 <= interval.high
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 2.0 / 10, rel=0.05)
    assert 180 <= num_covered <= 199  # 95% of 200 within 3 standard errors, less small-sample loss


def test_pairing_cancels_what_users_share() -> None:
    rng = np.random.default_rng(4)
    shared = rng.normal(0, 10, size=500)
    interval = paired_difference(shared + 0.5 + rng.normal(0, 0.1, 500), shared)
    assert interval.value == pytest.approx(0.5, abs=0.02)
    assert 0.48 < interval.low < interval.high < 0.52


def test_equal_predictions_differ_by_nothing() -> None:
    rng = np.random.default_rng(5)
    actual, a = rng.random((2, 40))
    interval = paired_statistic_difference(value.spearman, actual, a, a, num_resamples=20)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0, 0, 0))


def test_users_without_a_value_are_left_out() -> None:
    found = mean_intervals({"a": np.array([1.0, np.nan, 3.0]), "b": np.array([1.0, 1.0, 1.0])})
    assert found["a"].value == pytest.approx(2)
    assert found["b"] == Interval(1.0, 1.0, 1.0)


def test_nothing_to_measure_is_null() -> None:
    assert mean_interval(np.zeros(0)).as_dict() == {"value": None, "low": None, "high": None}
    assert math.isnan(bootstrap(value.spearman, np.zeros(0), np.zeros(0)).value)
    constant = bootstrap(value.spearman, np.arange(5.0), np.ones(5), num_resamples=10)
    assert constant.as_dict() == {"value": None, "low": None, "high": None}


def test_many_users_come_in_chunks() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(size=600_000)
    interval = mean_interval(values, num_resamples=20)
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low < 0.01


def test_gini_of_four_thousand_users_is_quick() -> None:
    rng = np.random.default_rng(7)
    actual, predicted = rng.exponential(size=(2, 4000))
    start_s = time.perf_counter()
    bootstrap(value.normalised_gini, actual, predicted)
    assert time.perf_counter() - start_s < 10  # about 1 s on an idle core
