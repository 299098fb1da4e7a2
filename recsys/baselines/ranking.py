"""Rankers without learning: what sells now, and what the user bought before.

Every ranker turns rows of its `Interactions` into scores over the catalogue; a user without target events
gets the recent popularity. Items that must not be shown are the caller's to mask.

Legend: B rows asked for, U users, V items, P (user, item) pairs.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import scipy.sparse as sp

from recsys.baselines.interactions import Interactions
from recsys.schema import PAD, SECONDS_PER_DAY

POPULARITY_WINDOW_DAYS = 30
HALF_LIFE_DAYS = 90.0


class Ranker(Protocol):
    """Scores of every item for some users."""

    name: str

    def scores(self, rows_B: np.ndarray) -> np.ndarray:
        """float32, shape (B, V + 1), higher is better; column 0 (padding) is -inf."""
        ...


def recent_popularity(interactions: Interactions, *, window_days: int = POPULARITY_WINDOW_DAYS) -> np.ndarray:
    """Popularity of the last `window_days`, ties and unsold items in order of all-time popularity.

    Returns:
        float32, shape (V + 1,), in [0, 1), entry 0 is 0. Without times, all events count.
    """
    all_time_V = interactions.popularity()
    recent_V = np.zeros_like(all_time_V)
    if interactions.has_time:
        recent_V = interactions.popularity(since=interactions.cut - window_days * SECONDS_PER_DAY)
    # Places instead of counts: float32 tells them apart however skewed the counts are.
    levels, level_of_item = np.unique(np.stack([recent_V, all_time_V]), axis=1, return_inverse=True)
    place_V = level_of_item.reshape(-1) / levels.shape[1]
    place_V[(recent_V == 0) & (all_time_V == 0)] = 0.0
    return place_V.astype(np.float32)


class MostPopular:
    """The same list for everyone: items with the most target events in the last `window_days`."""

    name = "most_popular"

    def __init__(self, *, interactions: Interactions, window_days: int = POPULARITY_WINDOW_DAYS) -> None:
        self._popularity_V = recent_popularity(interactions, window_days=window_days)

    def scores(self, rows_B: np.ndarray) -> np.ndarray:
        scores_BV = np.tile(self._popularity_V, (len(rows_B), 1))
        scores_BV[:, PAD] = -np.inf
        return scores_BV


class RepeatPurchase:
    """The user's own items first, the more and the later the higher; then popularity.

    An own item weighs the sum over its target events of 2 ** (-age / half life). Ties go to the later, then
    to the more popular one. Without times every event weighs 1.
    """

    name = "repeat_purchase"

    def __init__(self, *, interactions: Interactions, half_life_days: float = HALF_LIFE_DAYS) -> None:
        assert half_life_days > 0, "half_life_days must be positive"
        self._popularity_V = recent_popularity(interactions)
        self._place_UV = _own_item_places(interactions, half_life_days, self._popularity_V)

    def scores(self, rows_B: np.ndarray) -> np.ndarray:
        # Popularity is below 1, places of own items start at 1.
        scores_BV = np.tile(self._popularity_V, (len(rows_B), 1))
        places_BV = self._place_UV[rows_B]
        rows_P = np.repeat(np.arange(len(rows_B)), np.diff(places_BV.indptr))
        scores_BV[rows_P, places_BV.indices] = places_BV.data
        scores_BV[:, PAD] = -np.inf
        return scores_BV


def _own_item_places(
    interactions: Interactions, half_life_days: float, popularity_V: np.ndarray
) -> sp.csr_matrix:
    """For each user's own items, 1 for the weakest, 2 for the next; float32, shape (U, V + 1)."""
    is_target_E = interactions.is_target
    width = interactions.num_items + 1
    timestamp_E = interactions.timestamp[is_target_E]
    key_E = interactions.row_of_event[is_target_E] * width + interactions.item_index[is_target_E]
    key_P, pair_of_event_E = np.unique(key_E, return_inverse=True)
    weight_E = np.ones(len(key_E))
    if interactions.has_time:
        age_days_E = (interactions.cut - timestamp_E) / SECONDS_PER_DAY
        weight_E = np.exp2(-age_days_E / half_life_days)
    weight_P = np.bincount(pair_of_event_E, weights=weight_E, minlength=len(key_P))
    latest_P = np.full(len(key_P), np.iinfo(np.int64).min)
    np.maximum.at(latest_P, pair_of_event_E, timestamp_E)

    row_P, item_P = key_P // width, key_P % width
    order_P = np.lexsort((popularity_V[item_P], latest_P, weight_P, row_P))
    row_P, item_P = row_P[order_P], item_P[order_P]
    indptr_U1 = np.searchsorted(row_P, np.arange(interactions.num_users + 1))
    place_P = (np.arange(len(row_P)) - indptr_U1[row_P] + 1).astype(np.float32)
    return sp.csr_matrix((place_P, item_P, indptr_U1), shape=(interactions.num_users, width))
