"""What sells at a time: dated counts of every item, so that a query of March knows March's fashion, no more.

Legend: T times, V items (row 0 is padding), W windows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    flat = tables.histories
    asked = (np.asarray(flat.item_index) >= max(low, 1)) & (np.asarray(flat.item_index) < low + size)
    event = np.flatnonzero(np.isin(flat.event_type, tables.target_types) & asked)
    event = event[np.argsort(np.asarray(flat.timestamp)[event], kind="stable")]
    when, item = np.asarray(flat.timestamp)[event], np.asarray(flat.item_index)[event].astype(np.int64) - low
    nth = _nth_of_pair(flat.user_of_event()[event] * np.int64(out.shape[1]) + item)
    for t, time in enumerate(times):
        end = np.searchsorted(when, time, "right")
        for w, days in enumerate(WINDOWS_DAYS):
            start = np.searchsorted(when, time - days * SECONDS_PER_DAY, "right") if np.isfinite(days) else 0
            out[t, :, w] = np.log1p(np.bincount(item[start:end], minlength=out.shape[1]))
        users, again = (np.bincount(item[:end][nth[:end] == n], minlength=out.shape[1]) for n in (0, 1))
        out[t, :, -1] = np.log((again + 1) / (users + 5))
    return out


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
