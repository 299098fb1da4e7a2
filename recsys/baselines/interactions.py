"""The events that a baseline is fitted on.

Legend: U users (rows), E events, V items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from recsys.schema import InputError


@dataclass(frozen=True)
class Interactions:
    """Events of U users up to a cut, in time order within each user.

    Row `u` holds the events offsets[u] : offsets[u + 1] (CSR); shape (E,) unless said otherwise.

    Args:
        offsets: int64, shape (U + 1,).
        item_index: int32, from 1; 0 where the event has no item (only for events that are no target).
        timestamp: int64, Unix seconds, at or before `cut`; positions where `has_time` is false.
        value: float64, money of the event, returns negative, 0 without.
        is_target: bool, events of the type to be recommended: what rankers count.
        is_purchase: bool, events that make a purchase day for the value baselines.
        num_items: V, the catalogue without padding.
        cut: int64, Unix seconds.
        has_time: whether timestamps are times.

    Raises:
        InputError: an event after the cut, or an item beyond the catalogue.
    """

    offsets: np.ndarray
    item_index: np.ndarray
    timestamp: np.ndarray
    value: np.ndarray
    is_target: np.ndarray
    is_purchase: np.ndarray
    num_items: int
    cut: int
    has_time: bool = True

    def __post_init__(self) -> None:
        num_events = len(self.item_index)
        columns = (self.timestamp, self.value, self.is_target, self.is_purchase)
        assert all(column.shape == (num_events,) for column in columns), "event columns differ in length"
        assert self.offsets[0] == 0, "offsets must start at 0"
        assert self.offsets[-1] == num_events, "offsets must span the events"
        assert (np.diff(self.offsets) >= 0).all(), "offsets must not fall"
        same_user_E = np.diff(self.row_of_event) == 0
        assert (np.diff(self.timestamp)[same_user_E] >= 0).all(), "a user's events are not in time order"
        if num_events and self.has_time and self.timestamp.max() > self.cut:
            raise InputError("interactions hold an event after the cut; drop later events first")
        if num_events and not 0 <= self.item_index.min() <= self.item_index.max() <= self.num_items:
            raise InputError(f"an item_index lies outside 0..{self.num_items}; rebuild the feature tables")
        assert (self.item_index[self.is_target] > 0).all(), "a target event has no item"

    @classmethod
    def from_events(
        cls,
        *,
        row: np.ndarray,
        item_index: np.ndarray,
        timestamp: np.ndarray,
        value: np.ndarray,
        is_target: np.ndarray,
        is_purchase: np.ndarray,
        num_users: int,
        num_items: int,
        cut: int,
        has_time: bool = True,
    ) -> Interactions:
        """From events in any order (`row` is the user); equal times of one user keep the given order."""
        order_E = np.lexsort((timestamp, row))
        counts_U = np.bincount(row, minlength=num_users)
        assert len(counts_U) == num_users, "a row lies beyond num_users"
        return cls(
            offsets=np.concatenate(([0], np.cumsum(counts_U))).astype(np.int64),
            item_index=np.asarray(item_index)[order_E].astype(np.int32),
            timestamp=np.asarray(timestamp)[order_E].astype(np.int64),
            value=np.asarray(value)[order_E].astype(np.float64),
            is_target=np.asarray(is_target)[order_E].astype(bool),
            is_purchase=np.asarray(is_purchase)[order_E].astype(bool),
            num_items=num_items,
            cut=cut,
            has_time=has_time,
        )

    @property
    def num_users(self) -> int:
        return len(self.offsets) - 1

    @property
    def row_of_event(self) -> np.ndarray:
        """The user row of each event, shape (E,)."""
        return np.repeat(np.arange(self.num_users), np.diff(self.offsets))

    def target_counts(self) -> sp.csr_matrix:
        """How often each user met each item in target events: float64, shape (U, V + 1), column 0 empty."""
        pairs = (self.row_of_event[self.is_target], self.item_index[self.is_target])
        shape = (self.num_users, self.num_items + 1)
        counts = sp.csr_matrix((np.ones(len(pairs[0])), pairs), shape=shape)
        counts.sum_duplicates()
        return counts

    def popularity(self, *, since: int | None = None) -> np.ndarray:
        """Target events per item later than `since` (all without): float64, shape (V + 1,), entry 0 is 0."""
        counted_E = self.is_target if since is None else self.is_target & (self.timestamp > since)
        return np.bincount(self.item_index[counted_E], minlength=self.num_items + 1).astype(np.float64)
