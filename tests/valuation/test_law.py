"""Draws have the mean, the zeros and the quantiles of the law, for a user alone as for all."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import lognorm

from recsys.valuation.law import ValueParameters, coverage, increment_cdf, spend_draws


def parameters(
    num_users: int, *, payer: float = 0.6, mean: float = 30.0, sigma: float = 0.8
) -> ValueParameters:
    def full(value: float) -> np.ndarray:
        return np.full((num_users, 2), value)

    return ValueParameters(full(payer), full(mean), full(sigma), full(0.5), np.full(num_users, 0.5))


def test_sums_and_survival_by_hand() -> None:
    told = ValueParameters(
        np.array([[0.5, 0.5]]),
        np.array([[10.0, 5.0]]),
        np.ones((1, 2)),
        np.array([[0.5, 0.25]]),
        np.array([0.1]),
    )
    assert told.spend_UH().tolist() == [[10.0, 15.0]]
    assert told.return_UJ().tolist() == [[0.5, 0.625]]


def test_cdf_of_an_increment_is_that_of_scipy() -> None:
    below, upto = increment_cdf(
        np.array([0.0, 40.0]), mean=np.array(30.0), payer=np.array(0.6), sigma=np.array(0.8)
    )
    amount = lognorm(s=0.8, scale=50 * np.exp(-0.32))  # mean of payers: 30 / 0.6
    assert amount.mean() == pytest.approx(50)
    assert below.tolist() == pytest.approx([0.0, 0.4 + 0.6 * amount.cdf(40)])
    assert upto.tolist() == pytest.approx([0.4, 0.4 + 0.6 * amount.cdf(40)])


@pytest.mark.parametrize("dependence", [0.0, 0.7])
def test_draws_have_the_mean_the_zeros_and_the_tail(dependence: float) -> None:
    draws_UHS = spend_draws(parameters(400), np.arange(400), dependence=dependence)
    assert draws_UHS.dtype == np.float32
    assert (np.diff(draws_UHS, axis=1) >= 0).all()
    assert draws_UHS.mean(axis=(0, 2)) == pytest.approx([30.0, 60.0], rel=0.02)
    assert (draws_UHS[:, 0] == 0).mean() == pytest.approx(0.4, abs=0.01)
    amount = lognorm(s=0.8, scale=50 * np.exp(-0.32))
    expected = amount.ppf(1 - 0.05 / 0.6)
    assert np.quantile(draws_UHS[:, 0], 0.95, axis=1).mean() == pytest.approx(expected, rel=0.03)


def test_dependence_ties_the_increments_of_a_user() -> None:
    def both_zero(dependence: float) -> float:
        return float((spend_draws(parameters(400), np.arange(400), dependence=dependence)[:, 1] == 0).mean())

    assert both_zero(0.0) == pytest.approx(0.16, abs=0.01)
    assert 0.2 < both_zero(0.7) < 0.4


def test_a_users_draws_do_not_depend_on_the_others() -> None:
    together = spend_draws(parameters(5), np.array([3, 1, 4, 1, 5]), dependence=0.3)
    alone = spend_draws(parameters(1), np.array([4]), dependence=0.3)
    assert np.array_equal(together[2], alone[0])
    assert np.array_equal(together[1], together[3])
    assert not np.array_equal(together[0], together[1])


def test_a_right_law_covers_its_level_and_a_narrow_one_less() -> None:
    rng = np.random.default_rng(1)
    pays = rng.random(20_000) < 0.6
    spend = np.where(pays, 50 * np.exp(-0.32 + 0.8 * rng.standard_normal(20_000)), 0.0)

    def covered(sigma: float) -> float:
        law = increment_cdf(spend, mean=np.array(30.0), payer=np.array(0.6), sigma=np.array(sigma))
        return coverage(*law)

    assert covered(0.8) == pytest.approx(0.9, abs=0.005)
    assert covered(0.3) < 0.87


def test_coverage_of_a_point_of_mass_counts_its_part() -> None:
    # P(Y = 0) = 0.5 reaches from 0 to 0.5, of which 0.05 lies outside the central interval: 0.45 / 0.5
    assert coverage(np.array([0.0]), np.array([0.5])) == pytest.approx(0.9)
