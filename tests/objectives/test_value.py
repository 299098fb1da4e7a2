"""Losses of the value heads against scipy and calculations by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import bernoulli, lognorm

from recsys.batch import CutQueries
from recsys.nn.value_heads import ValueOutput
from recsys.objectives.value import conversion_loss, retention_loss, spend_loss

INF = float("inf")


def cuts(**changes: Any) -> CutQueries:
    """One user with two cuts, two horizons."""
    fields: dict[str, Any] = {
        "mask_BC": torch.tensor([[True, True]]),
        "length_BC": torch.tensor([[1, 2]]),
        "features_BCR": torch.zeros(1, 2, 1),
        "spend_BCH": torch.tensor([[[0.0, 20.0], [7.0, 0.0]]]),
        "observed_BCH": torch.ones(1, 2, 2, dtype=torch.bool),
        "next_active_days_BC": torch.tensor([[3.0, INF]]),
        "observed_days_BC": torch.tensor([[90.0, 90.0]]),
        "converted_BC": torch.tensor([[False, True]]),
    }
    return CutQueries(**(fields | changes))


def output(*, hazard: list[list[float]] | None = None) -> ValueOutput:
    return ValueOutput(
        payer_logit_BCH=torch.tensor([[[0.3, -1.0], [2.0, 0.0]]]),
        mu_BCH=torch.tensor([[[1.0, 2.5], [1.5, 0.0]]]),
        sigma_BCH=torch.tensor([[[0.7, 1.2], [0.9, 1.0]]]),
        hazard_logit_BCJ=torch.tensor([hazard or [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]),
        conversion_logit_BC=torch.tensor([[math.log(1 / 3), math.log(4)]]),  # chances 1/4 and 4/5
    )


def nll(spend: float, payer_logit: float, mu: float, sigma: float) -> float:
    """By scipy: no spend, or a lognormal amount; the constant log(amount) is left out of the loss."""
    chance = 1 / (1 + np.exp(-payer_logit))
    if spend == 0:
        return -float(bernoulli.logpmf(0, chance))
    density = lognorm.logpdf(spend, s=sigma, scale=np.exp(mu))
    return -float(bernoulli.logpmf(1, chance) + density + np.log(spend))


def test_spend_is_zero_inflated_lognormal() -> None:
    parts = [nll(0, 0.3, 1, 0.7), nll(20, -1, 2.5, 1.2), nll(7, 2, 1.5, 0.9), nll(0, 0, 0, 1)]
    assert spend_loss(output(), cuts()).item() == pytest.approx(sum(parts) / 2, rel=1e-5)


def test_spend_that_was_not_watched_does_not_count() -> None:
    observed = torch.tensor([[[True, False], [True, False]]])
    expected = (nll(0, 0.3, 1, 0.7) + nll(7, 2, 1.5, 0.9)) / 2
    assert spend_loss(output(), cuts(observed_BCH=observed)).item() == pytest.approx(expected, rel=1e-5)
    padded = cuts(mask_BC=torch.tensor([[False, True]]))
    expected = (nll(7, 2, 1.5, 0.9) + nll(0, 0, 0, 1)) / 2
    assert spend_loss(output(), padded).item() == pytest.approx(expected, rel=1e-5)


HAZARD = [[math.log(1 / 9), math.log(1 / 4), 0.0], [math.log(1 / 9), math.log(1 / 4), 0.0]]  # 0.1, 0.2, 0.5


BOTH, FIRST = [True, True], [True, False]


def retention(next_days: list[float], watched_days: list[float], mask: list[bool] = BOTH) -> float:
    """Times the number of bins: the summed negative log-likelihood. Bins end after 1, 7 and 30 days."""
    batch = cuts(
        next_active_days_BC=torch.tensor([next_days]),
        observed_days_BC=torch.tensor([watched_days]),
        mask_BC=torch.tensor([mask]),
    )
    return 3 * retention_loss(output(hazard=HAZARD), batch, bin_ends_days=(1, 7, 30)).item()


def test_a_return_is_survival_up_to_its_bin_and_then_the_hazard() -> None:
    # user 0 returns on day 3, the second bin; user 1 never within 30 days
    expected = -math.log(0.9 * 0.2) - math.log(0.9 * 0.8 * 0.5)
    assert retention([3, INF], [90, 90]) == pytest.approx(expected, rel=1e-5)


def test_a_censored_user_counts_only_for_the_bins_watched_to_their_end() -> None:
    # watched 10 days without a return: the bins up to day 7 are known, the one up to day 30 is not
    assert retention([INF, INF], [10, 10], FIRST) == pytest.approx(-math.log(0.9 * 0.8), rel=1e-5)
    # a return within a bin that was not watched to its end is known all the same
    assert retention([9, INF], [10, 10], FIRST) == pytest.approx(-math.log(0.9 * 0.8 * 0.5), rel=1e-5)


def test_a_return_at_the_end_of_a_bin_belongs_to_it() -> None:
    assert retention([7, INF], [90, 90], FIRST) == pytest.approx(-math.log(0.9 * 0.2), rel=1e-5)


def test_conversion_is_masked_by_the_first_horizon() -> None:
    assert conversion_loss(output(), cuts()).item() == pytest.approx(-math.log(0.75 * 0.8), rel=1e-5)
    observed = torch.tensor([[[True, False], [False, False]]])
    loss = conversion_loss(output(), cuts(observed_BCH=observed))
    assert loss.item() == pytest.approx(-math.log(0.75), rel=1e-5)
