"""Training samples: windows of a user's events, with the item and cut queries that fall into each.

Legend: S samples (windows), E events, Q item queries, K cut queries, H horizons, R cut features.
An item query knows the events up to a date (the prefix) and asks for the target events of the coming window;
where a data set has no time, every event asks for the next. Every query belongs to exactly one sample, so an
epoch asks each question at most once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.data.content import ItemContent
from recsys.data.cut_features import CutScaler, raw_cut_features
from recsys.data.negatives import Negatives
from recsys.data.popularity import period_starts
from recsys.data.tables import CutTable, FeatureTables
from recsys.schema import SECONDS_PER_DAY, Split
from recsys.settings import check_range

_USER_STRIDE = np.int64(1) << 40  # larger than any timestamp: (user, time) as one sortable int64


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """How histories become samples.

    max_length: events of a window; longer users become windows that overlap by half.
    target_window_days: items bought within this many days after the query are its targets.
    recency_half_life_days: weight of a query halves with every so many days before the boundary; 0 = equal.
    max_targets: targets of one query, drawn at random where there are more.
    dated_query_share: share of a user's period starts that ask, drawn anew each epoch.
    dated_query_weight: weight of such a query beside those within an order.
    inner_query_share: share of the positions within a moment (an order's lines) that ask as well, drawn anew
        each epoch; the order of a moment's events is shuffled each epoch, having no meaning.
    num_negatives: items drawn each step beside those of its rows and targets; a catalogue that is not larger
        is looked at whole.
    """

    max_length: int = 200
    target_window_days: int = 30
    recency_half_life_days: float = 120.0
    max_targets: int = 64
    dated_query_share: float = 0.5
    dated_query_weight: float = 3.0
    inner_query_share: float = 0.15
    num_negatives: int = 10_000

    def __post_init__(self) -> None:
        for name, least in (
            ("max_length", 2),
            ("target_window_days", 1),
            ("recency_half_life_days", 0),
            ("max_targets", 1),
            ("dated_query_weight", 0),
            ("num_negatives", 2),
        ):
            check_range(f"data.samples.{name}", getattr(self, name), least=least)
        for name in ("dated_query_share", "inner_query_share"):
            check_range(f"data.samples.{name}", getattr(self, name), least=0, most=1)


@dataclass(frozen=True)
class ItemQueryTable:
    """Item queries of all samples, those of a sample together; `start` (S + 1,) slices them by sample."""

    start: np.ndarray
    prefix: np.ndarray  # absolute event index of the first unknown event
    low: np.ndarray  # targets lie in events low : high
    high: np.ndarray
    weight: np.ndarray
    period: np.ndarray  # row of the period starts, at or before the query
    inner: np.ndarray  # bool, within a moment
    share: np.ndarray  # float32, probability of being asked in an epoch


@dataclass(frozen=True)
class CutQueryTable:
    """Cut queries of all samples, sorted by prefix; `start` (S + 1,) slices them by sample."""

    start: np.ndarray
    prefix: np.ndarray
    features: np.ndarray  # float32 (K, R)
    spend: np.ndarray  # float32 (K, H), increments
    observed: np.ndarray  # bool (K, H)
    next_active_days: np.ndarray
    observed_days: np.ndarray
    converted: np.ndarray


class TrainingSamples:
    """All that may be learned before the cut of `fit_until`; nothing after it is looked at.

    scaler: that of the model to go on from, whose value heads mean its units; without one it is fitted here.
    """

    def __init__(
        self, *, tables: FeatureTables, fit_until: str, config: SampleConfig, scaler: CutScaler | None = None
    ) -> None:
        self.tables, self.fit_until, self.config = tables, fit_until, config
        self.histories = tables.histories
        self.boundary = tables.cut(fit_until)
        self.user_end = _known_until(tables, fit_until, self.boundary)
        self._cut_windows()
        self.target_mask = self._target_mask()
        self.period_starts = period_starts(tables, self.boundary)
        self.items = self._item_queries()
        cut_tables = self._cut_tables(fit_until)
        self.scaler = scaler or CutScaler.fit(
            np.concatenate([raw_cut_features(c.activity) for c in cut_tables])
            if cut_tables
            else np.zeros((0, 1))
        )
        self.cuts = self._cut_queries(cut_tables)
        self.weight = np.add.reduceat(
            np.r_[self.items.weight * self.items.share, 0.0], self.items.start[:-1]
        ) * (np.diff(self.items.start) > 0)
        self.num_cuts = np.diff(self.cuts.start)
        self.profile = _profiles(tables, fit_until)
        self.content: ItemContent | None = None
        self.negatives: Negatives | None = None
        if tables.num_items > config.num_negatives:
            self.content = tables.content(fit_until, self.period_starts)
            self.negatives = self._negatives(self.content.in_training_V)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def lengths(self) -> np.ndarray:
        return self.end - self.begin

    def _cut_windows(self) -> None:
        """Windows (user, begin, end, loss_from): the newest max_length events, then back by half windows."""
        length, half = self.config.max_length, self.config.max_length // 2
        first, last = np.asarray(self.histories.offsets[:-1]), self.user_end
        total = last - first
        num_windows = np.where(total > 0, 1 + np.ceil(np.maximum(total - length, 0) / half).astype(int), 0)
        self.user = np.repeat(np.arange(len(first)), num_windows)
        back = np.arange(len(self.user)) - np.repeat(np.cumsum(num_windows) - num_windows, num_windows)
        self.end = last[self.user] - back * half
        self.begin = np.maximum(self.end - length, first[self.user])
        oldest = self.begin == first[self.user]
        self.loss_from = np.where(oldest, self.begin - 1, self.end - half)  # prefixes in (loss_from, end]
        order = np.argsort(self.end, kind="stable")
        self.user, self.end, self.begin, self.loss_from = (
            a[order] for a in (self.user, self.end, self.begin, self.loss_from)
        )

    def _target_mask(self) -> np.ndarray:
        """bool (E,), events that may be targets: of a target type and not sent back by the boundary."""
        histories = self.histories
        mask = np.isin(histories.event_type, self.tables.target_types) & (histories.item_index > 0)
        returned = np.asarray(histories.returned_at)
        return mask & ~((returned > 0) & (returned <= self.boundary)) if self.tables.is_time_split else mask

    def _negatives(self, in_training_V: np.ndarray) -> Negatives:
        learned = np.arange(len(self.target_mask)) < self.user_end[self.histories.user_of_event()]
        taken = np.asarray(self.histories.item_index)[learned & self.target_mask]
        return Negatives(
            count_V=np.bincount(taken, minlength=self.tables.num_items + 1),
            in_training_V=in_training_V,
            num_draws=self.config.num_negatives,
        )

    def _item_queries(self) -> ItemQueryTable:
        first = np.asarray(self.histories.offsets[:-1])
        if self.tables.is_time_split:
            prefix, low, high, time, inner = self._window_queries(first)
            age_days = (self.boundary - time) / SECONDS_PER_DAY
            half_life = self.config.recency_half_life_days
            weight = 0.5 ** (age_days / half_life) if half_life > 0 else np.ones(len(prefix))
            weight = weight * np.where(inner, 1.0, self.config.dated_query_weight)
            share = np.where(inner, self.config.inner_query_share, self.config.dated_query_share)
        else:
            event = np.concatenate([np.arange(a, b) for a, b in zip(first, self.user_end, strict=True)])
            prefix, low, high, weight, share = (
                event,
                event,
                event + 1,
                np.ones(len(event)),
                np.ones(len(event)),
            )
            inner, time = np.zeros(len(event), bool), np.zeros(len(event), np.int64)
        period = np.maximum(np.searchsorted(self.period_starts, time, "right") - 1, 0)
        cumulative = np.r_[0, np.cumsum(self.target_mask)]
        count = np.minimum(cumulative[high] - cumulative[low], self.config.max_targets)
        keep = np.flatnonzero(count > 0)
        keep = keep[np.argsort(self._sample_of(prefix[keep]), kind="stable")]
        sample = self._sample_of(prefix[keep])
        start = np.searchsorted(sample, np.arange(len(self) + 1))
        return ItemQueryTable(
            start,
            prefix[keep],
            low[keep],
            high[keep],
            (weight * np.where(inner, np.sqrt(count), 1.0))[keep].astype(np.float32),
            period[keep],
            inner[keep],
            share[keep].astype(np.float32),
        )

    def _window_queries(self, first: np.ndarray) -> tuple[np.ndarray, ...]:
        """Every user with a target at every period start, as an evaluation at that time would ask; and within
        an order (`inner`), from one of its lines to the rest and what follows."""
        user = self.histories.user_of_event()
        known = np.arange(len(user)) < self.user_end[user]
        key = user * _USER_STRIDE + self.histories.timestamp
        event = np.flatnonzero(known & np.r_[key[1:] == key[:-1], False])
        nonempty = np.flatnonzero(self.user_end > first)
        owner = np.r_[np.repeat(nonempty, len(self.period_starts)), user[event]]
        time = np.r_[np.tile(self.period_starts, len(nonempty)), np.asarray(self.histories.timestamp)[event]]
        num_dated = len(owner) - len(event)
        window = self.config.target_window_days * SECONDS_PER_DAY
        prefix, high = (
            np.minimum(np.searchsorted(key, owner * _USER_STRIDE + t, "right"), self.user_end[owner])
            for t in (time, time + window)
        )
        prefix[num_dated:] = event + 1
        inner = np.arange(len(owner)) >= num_dated
        return prefix, np.minimum(prefix, high), high, time, inner

    def _sample_of(self, prefix: np.ndarray) -> np.ndarray:
        """Index of the sample whose (loss_from, end] holds a prefix; an empty prefix is in the oldest."""
        at = np.searchsorted(self.end, prefix, "left")
        at = np.minimum(at, len(self) - 1)
        starts = np.asarray(self.histories.offsets[:-1])
        is_start = np.isin(prefix, starts)
        # prefix == a user's first event may equal the end of the user before: it belongs to the later one
        later = np.searchsorted(self.end, prefix, "right")
        return np.where(is_start, np.minimum(later, len(self) - 1), at)

    def _cut_tables(self, fit_until: str) -> list[CutTable]:
        if not self.tables.is_time_split:
            return []
        tables = [
            self.tables.at_cut(split=Split.TRAIN, cut=c)
            for c in self.tables.metadata["split"]["cuts"]["train"]
        ]
        if fit_until == Split.TEST:
            tables.append(self.tables.at_cut(split=Split.VALIDATION))
        return [t for t in tables if t.cut < self.boundary]

    def _cut_queries(self, cut_tables: list[CutTable]) -> CutQueryTable:
        num_horizons = max(len(self.tables.horizons_days), 1)
        parts: list[tuple[np.ndarray, ...]] = []
        for table in cut_tables:
            has = table.prefix_length > 0
            user = table.user_index[has] - 1
            prefix = np.asarray(self.histories.offsets)[user] + table.prefix_length[has]
            watched = np.minimum(table.observed_days[has], (self.boundary - table.cut) / SECONDS_PER_DAY)
            spend = np.diff(table.spend[has], axis=1, prepend=0.0)
            observed = np.asarray(self.tables.horizons_days)[None, :] <= watched[:, None] + 1e-6
            observed &= np.isfinite(table.spend[has])
            following = np.where(table.next_active_days[has] <= watched, table.next_active_days[has], np.inf)
            parts.append(
                (
                    prefix,
                    self.scaler(table.activity[has]),
                    np.nan_to_num(np.maximum(spend, 0)),
                    observed,
                    following,
                    watched,
                    table.num_purchases[has][:, 0] > 0,
                )
            )
        if not parts:
            zeros = np.zeros((0, num_horizons), np.float32)
            empty = np.zeros(0, np.float32)
            start = np.zeros(len(self) + 1, np.int64)
            features = np.zeros((0, len(self.scaler.mean)), np.float32)
            return CutQueryTable(
                start, empty.astype(int), features, zeros, zeros > 0, empty, empty, empty > 0
            )
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        # A cut's prefix is never empty: one that ends where the next user begins belongs to the user before.
        sample = np.searchsorted(self.end, columns[0], "left")
        order = np.argsort(sample, kind="stable")
        start = np.searchsorted(sample[order], np.arange(len(self) + 1))
        return CutQueryTable(start, *(column[order] for column in columns))


def _known_until(tables: FeatureTables, fit_until: str, boundary: int) -> np.ndarray:
    """int64 (U,): index after each user's last event that may be learned from."""
    histories = tables.histories
    if tables.is_time_split:
        user = histories.user_of_event()
        known = np.bincount(user[np.asarray(histories.timestamp) <= boundary], minlength=histories.num_users)
        return np.asarray(histories.offsets[:-1]) + known
    at = tables.at_cut(split=fit_until)
    end = np.asarray(histories.offsets[:-1]).copy()
    end[at.user_index - 1] += at.prefix_length
    return end


def _profiles(tables: FeatureTables, split: str) -> np.ndarray:
    """int64 (U, F): profile of each user as known at the boundary."""
    at = tables.at_cut(split=split)
    profile = np.zeros((tables.histories.num_users, at.profile.shape[1]), np.int64)
    profile[at.user_index - 1] = at.profile
    return profile
