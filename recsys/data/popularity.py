"""What sells at a time: dated counts of every item, so that a query of March knows March's fashion, no more.

Legend: T times, V items (row 0 is padding), W windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys.schema import SECONDS_PER_DAY

if TYPE_CHECKING:
    from recsys.data.tables import FeatureTables

WINDOWS_DAYS = (30.0, 90.0, np.inf)
NUM_COLUMNS = len(WINDOWS_DAYS) + 1
PERIOD_DAYS = 7


def popularity_at(
    tables: FeatureTables, times: np.ndarray, *, low: int = 0, high: int | None = None
) -> np.ndarray:
    """float32 (T, V, W), of the items low : high (None: all). Log(1 + target events of the item within each
    window up to and including the time), then log of the share of its users who took it again, shrunk
    towards 1 in 5.

    Zeros where a data set has an order but no time.
    """
    size = (tables.num_items + 1 if high is None else high) - low
    out = np.zeros((len(times), size, NUM_COLUMNS), np.float32)
    if not tables.is_time_split:
        return out
    order = np.argsort(times, kind="stable")
    counts = _Counts([*WINDOWS_DAYS, "takers", "came back"], np.asarray(times)[order], size)
    for users in tables.histories.blocks():
        when, item, nth = _taken(tables, users, low=low, high=low + size)
        for days in WINDOWS_DAYS:
            counts.add(days, when, item, days=days)
        for name, n in (("takers", 0), ("came back", 1)):
            counts.add(name, when[nth == n], item[nth == n], days=np.inf)
    for t, now in zip(order, counts.in_turn(), strict=True):
        for w, days in enumerate(WINDOWS_DAYS):
            out[t, :, w] = np.log1p(now[days])
        out[t, :, -1] = np.log((now["came back"] + 1) / (now["takers"] + 5))
    return out


def _taken(
    tables: FeatureTables, users: tuple[int, int], *, low: int, high: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time, item (from `low` on) and how often its user took it before, of these users' target events."""
    flat = tables.histories
    offsets = np.asarray(flat.offsets[users[0] : users[1] + 1])
    events = slice(int(offsets[0]), int(offsets[-1]))
    item, when = np.asarray(flat.item_index[events]), np.asarray(flat.timestamp[events])
    asked = np.isin(flat.event_type[events], tables.target_types) & (item >= max(low, 1)) & (item < high)
    event = np.flatnonzero(asked)
    event = event[np.argsort(when[event], kind="stable")]
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[event]
    item = item[event].astype(np.int64) - low
    return when[event], item, _nth_of_pair(user * np.int64(high - low) + item)


class _Counts:
    """Events of each item that lie in a window before each of the ascending times, kept as changes."""

    def __init__(self, names: list[Any], times: np.ndarray, num_items: int) -> None:
        self.times, self.num_items = times, num_items
        size = (len(times) + 1) * num_items
        self.change = {name: np.zeros(size, np.int32) for name in names}

    def add(self, name: Any, when: np.ndarray, item: np.ndarray, *, days: float) -> None:
        """An event counts from the first time at or after it until the window has left it behind."""
        change = self.change[name]
        np.add.at(change, np.searchsorted(self.times, when, "left") * self.num_items + item, 1)
        if np.isfinite(days):
            left = np.searchsorted(self.times, when + days * SECONDS_PER_DAY, "left")
            np.add.at(change, left * self.num_items + item, -1)

    def in_turn(self) -> Iterator[dict[Any, np.ndarray]]:
        """int32 (V,) of each name, time after time."""
        now = {name: np.zeros(self.num_items, np.int32) for name in self.change}
        for t in range(len(self.times)):
            for name, count in now.items():
                count += self.change[name][t * self.num_items : (t + 1) * self.num_items]
            yield now


def _nth_of_pair(pair: np.ndarray) -> np.ndarray:
    """How often each value came before, in order."""
    order = np.argsort(pair, kind="stable")
    ordered = pair[order]
    nth = np.empty(len(pair), np.int64)
    nth[order] = np.arange(len(pair)) - np.searchsorted(ordered, ordered)
    return nth


def period_starts(tables: FeatureTables, boundary: int) -> np.ndarray:
    """int64 (T,): one time a week from the first event up to the boundary; a single one without time."""
    first = int(tables.metadata["date_range"][0])
    if not tables.is_time_split:
        return np.array([first])
    return np.arange(first, boundary + 1, PERIOD_DAYS * SECONDS_PER_DAY)
