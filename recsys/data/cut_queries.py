"""A block of users -> cut queries: what each user was worth after the training cuts, as far as known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.data.cut_features import NUM_CUT_FEATURES, raw_cut_features
from recsys.data.cut_tables import CutTable
from recsys.data.tables import FeatureTables
from recsys.data.windows import UserBlock, Windows
from recsys.schema import SECONDS_PER_DAY, Split


@dataclass(frozen=True)
class CutQueryTable:
    """Cut queries of samples, sorted by prefix; `start` (S + 1,) slices them by sample."""

    start: np.ndarray
    prefix: np.ndarray
    features: np.ndarray  # float64 (K, R), before scaling
    spend: np.ndarray  # (K, H), increments
    observed: np.ndarray  # bool (K, H)
    next_active_days: np.ndarray
    observed_days: np.ndarray
    converted: np.ndarray

    def thinned(self, most: int) -> CutQueryTable:
        """At most so many queries, evenly spaced, in memory; without `start`."""
        step = max(1, -(-len(self.prefix) // most))
        columns = {name: column[::step].copy() for name, column in vars(self).items() if name != "start"}
        return CutQueryTable(start=np.zeros(0, np.int64), **columns)


def training_cuts(tables: FeatureTables, *, fit_until: str, boundary: int) -> list[CutTable]:
    """The cuts before the boundary that training may learn from."""
    if not tables.is_time_split:
        return []
    cuts = [tables.at_cut(split=Split.TRAIN, cut=c) for c in tables.metadata["split"]["cuts"]["train"]]
    if fit_until == Split.TEST:
        cuts.append(tables.at_cut(split=Split.VALIDATION))
    return [table for table in cuts if table.cut < boundary]


def cut_queries(
    block: UserBlock,
    windows: Windows,
    cut_tables: list[CutTable],
    *,
    horizons_days: list[int],
    boundary: int,
) -> CutQueryTable:
    first, after = block.first_user, block.first_user + len(block.start)
    parts = [
        _at_cut(table.of_users(first, after), block, horizons_days=horizons_days, boundary=boundary)
        for table in cut_tables
    ]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] or _none(len(horizons_days))
    # A cut's prefix is never empty: one that ends where the next user begins belongs to the user before.
    sample = np.searchsorted(windows.end, columns[0], "left")
    order = np.argsort(sample, kind="stable")
    start = np.searchsorted(sample[order], np.arange(len(windows.end) + 1))
    return CutQueryTable(start, *(column[order] for column in columns))


def _at_cut(
    table: CutTable, block: UserBlock, *, horizons_days: list[int], boundary: int
) -> tuple[np.ndarray, ...]:
    """Columns of CutQueryTable without `start`, of the users who have a history."""
    has = table.prefix_length > 0
    prefix = block.start[table.user_index[has] - 1 - block.first_user] + table.prefix_length[has]
    watched = np.minimum(table.observed_days[has], (boundary - table.cut) / SECONDS_PER_DAY)
    spend = np.diff(table.spend[has], axis=1, prepend=0.0)
    observed = np.asarray(horizons_days)[None, :] <= watched[:, None] + 1e-6
    observed &= np.isfinite(table.spend[has])
    following = np.where(table.next_active_days[has] <= watched, table.next_active_days[has], np.inf)
    return (
        prefix,
        raw_cut_features(table.activity[has]),
        np.nan_to_num(np.maximum(spend, 0)),
        observed,
        following,
        watched,
        table.num_purchases[has][:, 0] > 0,
    )


def _none(num_horizons: int) -> list[np.ndarray]:
    zeros_KH, zeros_K = np.zeros((0, max(num_horizons, 1))), np.zeros(0)
    return [
        zeros_K.astype(np.int64),
        np.zeros((0, NUM_CUT_FEATURES)),
        zeros_KH,
        zeros_KH > 0,
        zeros_K,
        zeros_K,
        zeros_K > 0,
    ]
