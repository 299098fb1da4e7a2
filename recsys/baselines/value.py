"""Expected spend of each user over horizons after the cut, without learning from value targets.

Legend: U users, H horizons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from recsys.baselines.bg_nbd import fit_bg_nbd
from recsys.baselines.gamma_gamma import fit_gamma_gamma
from recsys.baselines.interactions import Interactions
from recsys.baselines.purchase_summary import summarise_purchases

MIN_TENURE_DAYS = 30.0


class ValueBaseline(Protocol):
    """Expected net spend in (cut, cut + horizon] for every user of its `Interactions`."""

    name: str

    def spend(self, horizons_days: Sequence[float]) -> np.ndarray:
        """float64, money, shape (U, H)."""
        ...


class PastSpend:
    """Customers go on as before: net spend so far / tenure x horizon.

    `score` is the net spend so far itself: the order of users that needs no model. A tenure below
    `min_tenure_days` counts as that long, or one order on the first day would be a daily habit.

    Raises:
        InputError: the data has no times.
    """

    name = "past_spend"

    def __init__(self, *, interactions: Interactions, min_tenure_days: float = MIN_TENURE_DAYS) -> None:
        assert min_tenure_days > 0, "min_tenure_days must be positive"
        summary = summarise_purchases(interactions)
        self._net_spend_U = summary.net_spend
        self._per_day_U = summary.net_spend / np.maximum(summary.tenure_days, min_tenure_days)

    def score(self) -> np.ndarray:
        """Net spend before the cut, money, shape (U,)."""
        return self._net_spend_U

    def spend(self, horizons_days: Sequence[float]) -> np.ndarray:
        return self._per_day_U[:, None] * np.asarray(horizons_days, dtype=np.float64)


class BgNbdGammaGamma:
    """Expected purchase days (BG/NBD) x expected spend per purchase day (Gamma-Gamma) x share not returned.

    Users who never bought are outside these models and get 0.

    Raises:
        InputError: the data has no times, or no repeat purchases to fit on.
    """

    name = "bg_nbd_gamma_gamma"

    def __init__(self, *, interactions: Interactions) -> None:
        summary = summarise_purchases(interactions)
        self._has_bought_U = summary.has_bought
        bought = self._has_bought_U
        self._history = {
            "frequency": summary.frequency[bought].astype(np.float64),
            "recency": summary.recency_days[bought],
            "age": summary.age_days[bought],
        }
        self.purchases = fit_bg_nbd(**self._history)
        self._summary = summary

    def spend(self, horizons_days: Sequence[float]) -> np.ndarray:
        """Raises InputError where no purchases have a value to fit on."""
        summary, bought = self._summary, self._has_bought_U
        num_purchases, mean_spend = summary.frequency[bought] + 1, summary.mean_day_spend[bought]
        money = fit_gamma_gamma(num_purchases=num_purchases, mean_spend=mean_spend)
        day_spend = summary.net_share * money.expected_spend(
            num_purchases=num_purchases, mean_spend=mean_spend
        )
        columns = [
            self._to_users(day_spend * self.purchases.expected_purchases(horizon=days, **self._history))
            for days in horizons_days
        ]
        return np.stack(columns, axis=1)

    def probability_of_purchase(self, horizons_days: Sequence[float]) -> np.ndarray:
        """P(at least one purchase in (cut, cut + horizon]), shape (U, H)."""
        columns = [
            self._to_users(self.purchases.probability_of_purchase(horizon=days, **self._history))
            for days in horizons_days
        ]
        return np.stack(columns, axis=1)

    def _to_users(self, values: np.ndarray) -> np.ndarray:
        users_U = np.zeros(len(self._has_bought_U))
        users_U[self._has_bought_U] = values
        return users_U
