"""Against the CDNOW figures of Fader and Hardie 2013, and simulated customers."""

import numpy as np
import pytest

from recsys.baselines.gamma_gamma import GammaGamma, fit_gamma_gamma
from recsys.schema import InputError

CDNOW = GammaGamma(p=6.25, q=3.74, gamma=15.44)


def test_expected_spend_of_cdnow_customers() -> None:
    # 6.25 (15.44 + 2 * 22.35) / (6.25 * 2 + 2.74), and 6.25 * 15.44 / 2.74 for an unknown customer.
    found = CDNOW.expected_spend(num_purchases=np.array([2.0, 0.0]), mean_spend=np.array([22.35, 0.0]))
    assert found == pytest.approx([24.66, 35.22], abs=0.01)
    assert CDNOW.population_mean == pytest.approx(35.22, abs=0.01)


def test_parameters_and_expectations_match_simulated_customers() -> None:
    rng = np.random.default_rng(0)
    num_customers = 20_000
    rate = rng.gamma(CDNOW.q, 1 / CDNOW.gamma, num_customers)
    num_purchases = rng.integers(1, 9, num_customers)
    mean_spend = rng.gamma(CDNOW.p * num_purchases) / rate / num_purchases
    true_mean = CDNOW.p / rate

    found = fit_gamma_gamma(num_purchases=num_purchases, mean_spend=mean_spend)
    assert (found.p, found.q, found.gamma) == pytest.approx((6.25, 3.74, 15.44), rel=0.1)
    expected = CDNOW.expected_spend(num_purchases=num_purchases, mean_spend=mean_spend)
    for group in (num_purchases == 1, mean_spend > 60, mean_spend < 20):
        spread = true_mean[group].std() / np.sqrt(group.sum())
        assert abs(expected[group].mean() - true_mean[group].mean()) < 4 * spread


def test_unit_of_money_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    num_purchases, mean_spend = rng.integers(1, 5, 500), rng.lognormal(3, 1, 500)
    pounds = fit_gamma_gamma(num_purchases=num_purchases, mean_spend=mean_spend)
    pence = fit_gamma_gamma(num_purchases=num_purchases, mean_spend=mean_spend * 100)
    assert (pence.p, pence.q, pence.gamma / 100) == pytest.approx(
        (pounds.p, pounds.q, pounds.gamma), rel=1e-4
    )


def test_no_money_is_refused() -> None:
    with pytest.raises(InputError, match="positive value"):
        fit_gamma_gamma(num_purchases=np.array([1, 2]), mean_spend=np.zeros(2))
