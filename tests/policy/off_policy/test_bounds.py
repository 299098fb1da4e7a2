"""Bounds against scipy, against the project's own bootstrap, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from recsys.metrics.interval import mean_interval, resamples
from recsys.policy.off_policy.bounds import bernstein_lower, bootstrap_bounds, t_bounds
from recsys.policy.off_policy.clipped import clipped_lower
from recsys.policy.off_policy.contributions import Contributions
from recsys.schema import InputError
from tests.policy.off_policy.test_single_step import decisions

VALUES = np.random.default_rng(3).gamma(2.0, size=80)
MEAN = Contributions(VALUES[:, None], np.ones((80, 1)))


def test_t_is_that_of_scipy() -> None:
    found = t_bounds(MEAN, level=0.9)
    two_sided = stats.ttest_1samp(VALUES, 0).confidence_interval(0.9)
    one_sided = stats.ttest_1samp(VALUES, 0, alternative="greater").confidence_interval(0.9)
    assert (found.interval.low, found.interval.high) == pytest.approx((two_sided.low, two_sided.high))
    assert found.lower == pytest.approx(one_sided.low)


def test_another_variance_adds_to_that_of_the_estimate() -> None:
    alone, both = t_bounds(MEAN), t_bounds(MEAN, extra_variance=MEAN.standard_error**2 * 3)
    assert alone.interval.value - both.lower == pytest.approx(2 * (alone.interval.value - alone.lower))


def test_percentiles_are_those_of_the_projects_bootstrap() -> None:
    found = bootstrap_bounds(MEAN, num_resamples=300, seed=4)["percentile"].interval
    assert found.as_dict() == pytest.approx(mean_interval(VALUES, num_resamples=300, seed=4).as_dict())


def test_studentised_bounds_are_those_of_a_loop_over_the_same_resamples() -> None:
    """Each resample's mean less the mean, over its own standard error (scipy's)."""
    found = bootstrap_bounds(MEAN, num_resamples=500)["studentised"]
    pivots = []
    for weight_U in next(resamples(80, 500, 0)):
        drawn = np.repeat(VALUES, weight_U.astype(int))
        pivots.append((drawn.mean() - VALUES.mean()) / stats.sem(drawn))
    expected = VALUES.mean() - np.quantile(pivots, [0.975, 0.025, 0.95]) * stats.sem(VALUES)
    np.testing.assert_allclose([found.interval.low, found.interval.high, found.lower], expected, rtol=1e-9)


def test_a_sum_of_ratios_has_the_error_of_its_resamples() -> None:
    rng = np.random.default_rng(6)
    weight_UT = rng.gamma(2.0, size=(400, 3))
    ratios = Contributions(weight_UT * rng.gamma(3.0, size=(400, 3)), weight_UT)
    resampled = []
    for _ in range(4000):
        rows = rng.integers(400, size=400)
        resampled.append(Contributions(ratios.numerator_UT[rows], ratios.denominator_UT[rows]).value)
    assert ratios.standard_error == pytest.approx(np.std(resampled), rel=0.05)
    assert ratios.influence_U.sum() == pytest.approx(0.0, abs=1e-9)


def test_bernstein_by_hand() -> None:
    """Mean 0.5, variance 1/3, four users, delta 0.05: 0.5 - sqrt(2/3 ln 40 / 4) - 7 * 2 ln 40 / 9."""
    found = bernstein_lower(np.array([0.0, 0.0, 1.0, 1.0]), least=-1.0, most=1.0)
    log_term = math.log(40)
    assert found == pytest.approx(0.5 - math.sqrt(2 / 3 * log_term / 4) - 14 * log_term / 9)


def test_clipped_weights_by_hand() -> None:
    """Weights 2, 0.5, 1 cut at 1.5; users sum to 5.5 and 1, or to 0.5 and 0 over what they earned."""
    log, log_term = decisions(), math.log(40)
    for over_logged, sums, width in ((False, (5.5, 1.0), 1.5), (True, (0.5, 0.0), 1.5)):
        value_U = np.array(sums) / 1.5
        expected = value_U.mean() - math.sqrt(value_U.var(ddof=1) * log_term)
        expected -= 7 * (width * 3 * 2 / 1.5) * log_term / 3
        found = clipped_lower(log, cap=1.5, most_reward=3.0, over_logged=over_logged)
        assert found == pytest.approx(expected)


def test_rewards_beyond_their_range_have_no_bernstein_bound() -> None:
    with pytest.raises(InputError, match=r"run from 1 to 3, beyond \[0, 2\]"):
        clipped_lower(decisions(), cap=2.0, most_reward=2.0)


def test_one_user_has_no_bounds() -> None:
    one = Contributions(np.ones((1, 1)), np.ones((1, 1)))
    assert math.isnan(t_bounds(one).lower)
    assert all(math.isnan(bounds.lower) for bounds in bootstrap_bounds(one).values())
    assert math.isnan(bernstein_lower(np.ones(1), least=0.0, most=1.0))
