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


class BgNbdPurchases:
    """Purchase days to come (BG/NBD), which need no money. Users who never bought are outside it and get 0.

    Raises:
        InputError: the data has no times, or no repeat purchases to fit on.
    """

    name = "bg_nbd"

    def __init__(self, *, interactions: Interactions) -> None:
        self.summary = summarise_purchases(interactions)
        bought = self.summary.has_bought
        self._history = {
            "frequency": self.summary.frequency[bought].astype(np.float64),
            "recency": self.summary.recency_days[bought],
            "age": self.summary.age_days[bought],
        }
        self.model = fit_bg_nbd(**self._history)

    def expected_purchases(self, horizons_days: Sequence[float]) -> np.ndarray:
        """Mean number of purchase days in (cut, cut + horizon], shape (U, H)."""
        columns = [self.model.expected_purchases(horizon=days, **self._history) for days in horizons_days]
        return self._to_users(columns)

    def probability_of_purchase(self, horizons_days: Sequence[float]) -> np.ndarray:
        """P(at least one purchase in (cut, cut + horizon]), shape (U, H)."""
        columns = [
            self.model.probability_of_purchase(horizon=days, **self._history) for days in horizons_days
        ]
        return self._to_users(columns)

    def _to_users(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        users_UH = np.zeros((len(self.summary.has_bought), len(columns)))
        users_UH[self.summary.has_bought] = np.stack(columns, axis=1)
        return users_UH


class BgNbdGammaGamma:
    """Expected purchase days (BG/NBD) x expected spend per purchase day (Gamma-Gamma) x share not returned.

    Users who never bought are outside these models and get 0.

    Raises:
        InputError: no purchases with a value to fit on.
    """

    name = "bg_nbd_gamma_gamma"

    def __init__(self, *, purchases: BgNbdPurchases) -> None:
        self._purchases, summary = purchases, purchases.summary
        history = {"num_purchases": summary.frequency + 1, "mean_spend": summary.mean_day_spend}
        self.money = fit_gamma_gamma(**history)
        self._day_spend_U = summary.net_share * self.money.expected_spend(**history)

    def spend(self, horizons_days: Sequence[float]) -> np.ndarray:
        return self._day_spend_U[:, None] * self._purchases.expected_purchases(horizons_days)
