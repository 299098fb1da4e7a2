"""How much a population will buy, by a buy-till-you-die model: BG/NBD x Gamma-Gamma, fitted on the past.

The value heads tell users apart; how their sum fades with time, and beyond the horizons that training could
watch, is what these four and three parameters know better.

Legend: U users, H horizons or ends of bins.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np

from recsys.baselines.bg_nbd import BgNbd, fit_bg_nbd
from recsys.baselines.gamma_gamma import GammaGamma, fit_gamma_gamma
from recsys.baselines.interactions import Interactions
from recsys.baselines.purchase_summary import PurchaseSummary, summarise_purchases
from recsys.schema import InputError


class Decay:
    """Fitted to all that is known at one cut.

    Where nobody has bought twice, buying is taken to go on at a constant rate.
    """

    def __init__(self, known: Interactions) -> None:
        summary = summarise_purchases(known)
        self.purchases: BgNbd | None = None
        self.money: GammaGamma | None = None
        with contextlib.suppress(InputError):
            self.purchases = fit_bg_nbd(**_history(summary))
            self.money = fit_gamma_gamma(
                num_purchases=summary.frequency + 1, mean_spend=summary.mean_day_spend
            )

    @property
    def source(self) -> str:
        """Name of the model, for reports."""
        if self.purchases is None:
            return "a constant rate"
        return "BG/NBD" if self.money is None else "BG/NBD x Gamma-Gamma"

    def increments(self, known: Interactions, ends_days: Sequence[int]) -> np.ndarray:
        """float64 (H,), above 0: spend (purchases, without money) of all users between the ends after the cut
        of `known`, up to a factor.
        """
        if self.purchases is None:
            return known.num_users * np.diff(np.asarray(ends_days, np.float64), prepend=0.0)
        summary = summarise_purchases(known)
        bought_U, weight_U = summary.has_bought, np.ones(1)
        if self.money is not None:
            weight_U = self.money.expected_spend(
                num_purchases=summary.frequency[bought_U] + 1, mean_spend=summary.mean_day_spend[bought_U]
            )
        total_H = [
            float((weight_U * self.purchases.expected_purchases(horizon=days, **_history(summary))).sum())
            for days in ends_days
        ]
        return np.maximum(np.diff(total_H, prepend=0.0), 1e-12)

    def hazards(self, known: Interactions, ends_days: Sequence[int]) -> np.ndarray:
        """float64 (H,), above 0: growth of -log P(no purchase yet) of all users together between the ends."""
        if self.purchases is None:
            return np.diff(np.asarray(ends_days, np.float64), prepend=0.0)
        history = _history(summarise_purchases(known))
        returned_H = [
            float(self.purchases.probability_of_purchase(horizon=days, **history).mean())
            for days in ends_days
        ]
        return np.maximum(np.diff(-np.log1p(-np.minimum(returned_H, 1 - 1e-9)), prepend=0.0), 1e-12)


def _history(summary: PurchaseSummary) -> dict[str, np.ndarray]:
    bought_U = summary.has_bought
    return {
        "frequency": summary.frequency[bought_U].astype(np.float64),
        "recency": summary.recency_days[bought_U],
        "age": summary.age_days[bought_U],
    }
