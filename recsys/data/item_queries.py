"""A block of users -> item queries: what a user takes in the coming window, asked at dates and within orders.

Every query belongs to exactly one sample, so an epoch asks each question at most once. Where a data set has
no time there are none: every position of a window asks for the event after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.data.sample_config import SampleConfig
from recsys.data.windows import UserBlock, Windows
from recsys.schema import SECONDS_PER_DAY

_USER_STRIDE = np.int64(1) << 40  # larger than any timestamp: (user, time) as one sortable int64


@dataclass(frozen=True)
class ItemQueryTable:
    """Item queries of samples, those of a sample together; `start` (S + 1,) slices them by sample."""

    start: np.ndarray
    prefix: np.ndarray  # absolute event index of the first unknown event
    low: np.ndarray  # targets lie in events low : high
    high: np.ndarray
    weight: np.ndarray
    period: np.ndarray  # row of the period starts, at or before the query
    inner: np.ndarray  # bool, within a moment
    share: np.ndarray  # float32, probability of being asked in an epoch


@dataclass(frozen=True)
class _Questions:
    """Candidates for queries, of which those with a target are kept; columns as in ItemQueryTable."""

    prefix: np.ndarray
    low: np.ndarray
    high: np.ndarray
    time: np.ndarray
    inner: np.ndarray

    def take(self, at: np.ndarray) -> _Questions:
        return _Questions(*(column[at] for column in vars(self).values()))


def dated_queries(
    block: UserBlock, windows: Windows, *, period_starts: np.ndarray, boundary: int, config: SampleConfig
) -> ItemQueryTable:
    """Every user with a target at every period start, as an evaluation at that time would ask; and within
    an order (`inner`), from one of its lines to the rest and what follows."""
    key = block.user * _USER_STRIDE + block.timestamp
    event = np.flatnonzero(block.is_known & np.r_[key[1:] == key[:-1], False])
    nonempty = np.flatnonzero(block.end > block.start)
    owner = np.r_[np.repeat(nonempty, len(period_starts)), block.user[event]]
    time = np.r_[np.tile(period_starts, len(nonempty)), block.timestamp[event]]
    num_dated = len(owner) - len(event)
    window = config.target_window_days * SECONDS_PER_DAY
    prefix, high = (
        np.minimum(
            block.first_event + np.searchsorted(key, owner * _USER_STRIDE + until, "right"), block.end[owner]
        )
        for until in (time, time + window)
    )
    prefix[num_dated:] = block.first_event + event + 1
    inner = np.arange(len(owner)) >= num_dated
    asked = _Questions(prefix, np.minimum(prefix, high), high, time, inner)
    asked, sample, count = _answered(asked, block, windows, max_targets=config.max_targets)
    age_days = (boundary - asked.time) / SECONDS_PER_DAY
    half_life = config.recency_half_life_days
    weight = 0.5 ** (age_days / half_life) if half_life > 0 else np.ones(len(sample))
    weight = weight * np.where(asked.inner, 1.0, config.dated_query_weight)
    share = np.where(asked.inner, config.inner_query_share, config.dated_query_share)
    weight = weight * np.where(asked.inner, np.sqrt(count), 1.0)
    return _table(asked, sample, windows, weight=weight, share=share, period_starts=period_starts)


def no_queries(windows: Windows) -> ItemQueryTable:
    """Of samples whose positions all ask."""
    none = np.zeros(0, np.int64)
    return ItemQueryTable(
        start=np.zeros(len(windows.end) + 1, np.int64),
        prefix=none,
        low=none,
        high=none,
        weight=none.astype(np.float32),
        period=none,
        inner=none > 0,
        share=none.astype(np.float32),
    )


def _answered(
    asked: _Questions, block: UserBlock, windows: Windows, *, max_targets: int
) -> tuple[_Questions, np.ndarray, np.ndarray]:
    """The questions with a target by sample, their samples and their numbers of targets."""
    cumulative = np.r_[0, np.cumsum(block.is_target)]
    count = cumulative[asked.high - block.first_event] - cumulative[asked.low - block.first_event]
    keep = np.flatnonzero(count > 0)
    sample = windows.holding(block, asked.prefix[keep])
    order = np.argsort(sample, kind="stable")
    keep = keep[order]
    return asked.take(keep), sample[order], np.minimum(count[keep], max_targets)


def _table(
    asked: _Questions,
    sample: np.ndarray,
    windows: Windows,
    *,
    weight: np.ndarray,
    share: np.ndarray,
    period_starts: np.ndarray,
) -> ItemQueryTable:
    return ItemQueryTable(
        start=np.searchsorted(sample, np.arange(len(windows.end) + 1)),
        prefix=asked.prefix,
        low=asked.low,
        high=asked.high,
        weight=weight.astype(np.float32),
        period=np.maximum(np.searchsorted(period_starts, asked.time, "right") - 1, 0),
        inner=asked.inner,
        share=share.astype(np.float32),
    )
