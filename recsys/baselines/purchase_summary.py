"""Recency, frequency and spend of each user, as buy-till-you-die models read them.

Legend: U users, E events, P (user, day) pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.baselines.interactions import Interactions
from recsys.schema import SECONDS_PER_DAY, InputError


@dataclass(frozen=True)
class PurchaseSummary:
    """One entry per user; times in days, a purchase day is a UTC day with at least one purchase.

    Args:
        frequency: int64, purchase days after the first; -1 for a user who never bought.
        recency_days: float64, first to last purchase day (0 if there is one or none).
        age_days: float64, start of the first purchase day to the cut (0 if none).
        mean_day_spend: float64, money of purchases / purchase days, before returns (0 if none).
        net_spend: float64, money of all events, returns subtracted.
        tenure_days: float64, first event of any kind to the cut (0 without events).
    """

    frequency: np.ndarray
    recency_days: np.ndarray
    age_days: np.ndarray
    mean_day_spend: np.ndarray
    net_spend: np.ndarray
    tenure_days: np.ndarray

    @property
    def has_bought(self) -> np.ndarray:
        return self.frequency >= 0

    @property
    def net_share(self) -> float:
        """Net spend of all users / their purchases before returns, in [0, 1]; 1 without purchases."""
        gross = float((self.mean_day_spend * (self.frequency + 1)).sum())
        return float(np.clip(self.net_spend.sum() / gross, 0.0, 1.0)) if gross > 0 else 1.0


def summarise_purchases(interactions: Interactions) -> PurchaseSummary:
    """Raises InputError where the data has no times: rates per day have no meaning there."""
    if not interactions.has_time:
        raise InputError("value baselines need event times and this data set has none; leave them out for it")
    num_users, cut_days = interactions.num_users, interactions.cut / SECONDS_PER_DAY
    row_E = interactions.row_of_event
    is_purchase_E = interactions.is_purchase
    day_E = interactions.timestamp // SECONDS_PER_DAY

    # Events are in time order within users, so (user, day) pairs come out sorted.
    pairs_P = np.unique(np.stack([row_E[is_purchase_E], day_E[is_purchase_E]]), axis=1)
    num_days_U = np.bincount(pairs_P[0], minlength=num_users)
    end_U = np.cumsum(num_days_U)
    has_bought_U = num_days_U > 0
    first_day_U, last_day_U = np.zeros(num_users), np.zeros(num_users)
    first_day_U[has_bought_U] = pairs_P[1][(end_U - num_days_U)[has_bought_U]]
    last_day_U[has_bought_U] = pairs_P[1][end_U[has_bought_U] - 1]

    gross_U = np.bincount(
        row_E[is_purchase_E], weights=interactions.value[is_purchase_E], minlength=num_users
    )
    tenure_days_U = np.zeros(num_users)
    has_events_U = np.diff(interactions.offsets) > 0
    first_timestamp = interactions.timestamp[interactions.offsets[:-1][has_events_U]]
    tenure_days_U[has_events_U] = cut_days - first_timestamp / SECONDS_PER_DAY
    return PurchaseSummary(
        frequency=num_days_U - 1,
        recency_days=last_day_U - first_day_U,
        age_days=np.where(has_bought_U, cut_days - first_day_U, 0.0),
        mean_day_spend=gross_U / np.maximum(num_days_U, 1),
        net_spend=np.bincount(row_E, weights=interactions.value, minlength=num_users),
        tenure_days=tenure_days_U,
    )
