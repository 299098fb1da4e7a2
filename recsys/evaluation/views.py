"""Which users, candidates and targets a ranking figure is about.

Legend: U users of the cut table, B users of a chunk, V items, K ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from recsys.data.cut_tables import CutTable
from recsys.data.tables import FeatureTables, Items
from recsys.metrics.ragged import Ragged
from recsys.policy.memory import shown_before
from recsys.policy.slates import PolicyConfig
from recsys.schema import SECONDS_PER_DAY, Table

MAX_RANK = 50
_CATEGORY = "category"


@dataclass(frozen=True)
class View:
    """rows: users with a target; targets aligned with rows; candidate: bool (V + 1,); hides_seen: drop the
    items of the user's own history from the candidates."""

    name: str
    rows: np.ndarray
    targets: Ragged
    candidate: np.ndarray
    hides_seen: bool


def seen_and_targets(tables: FeatureTables, table: CutTable) -> tuple[Ragged, Ragged]:
    """(items of the history, items of the window after the cut) of each user, target-type events only.

    A purchase that was wholly sent back within the window is no target. In leave_one_out the target is the
    one event after the prefix.
    """
    flat = tables.histories
    first, last = flat.offsets[table.user_index - 1], flat.offsets[table.user_index]
    low, high = (first.min(), last.max()) if len(first) else (0, 0)  # of the events of these users
    first, last = first - low, last - low
    middle = first + table.prefix_length
    item_index = flat.item_index[low:high]
    is_target = np.isin(flat.event_type[low:high], tables.target_types) & (item_index > 0)
    if tables.is_time_split:
        end = table.cut + tables.window_days * SECONDS_PER_DAY
        returned = flat.returned_at[low:high]
        after = is_target & (flat.timestamp[low:high] <= end) & ~((returned > 0) & (returned <= end))
    else:
        last, after = np.minimum(middle + 1, last), is_target
    return (
        _items_between(item_index, is_target, first, middle),
        _items_between(item_index, after, middle, last),
    )


def targets_by_day(
    tables: FeatureTables, table: CutTable, view: View
) -> tuple[np.ndarray, np.ndarray, Ragged]:
    """The view's targets by the day of the window (from 0, 24 hours from the cut on) that they were taken on:
    row, ascending, and day of each list, and its targets.
    """
    flat, num_items, num_days = tables.histories, tables.num_items + 1, tables.window_days
    user_V = table.user_index[view.rows]
    begin = flat.offsets[user_V - 1] + table.prefix_length[view.rows]
    counts = flat.offsets[user_V] - begin
    place = np.repeat(np.arange(len(view.rows)), counts)
    event = np.repeat(begin - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    item = np.asarray(flat.item_index)[event].astype(np.int64)
    wanted = view.targets.row_of_entry * num_items + view.targets.values
    day = (np.asarray(flat.timestamp)[event] - table.cut - 1) // SECONDS_PER_DAY
    asked = np.isin(flat.event_type[event], tables.target_types) & (day < num_days)
    asked &= np.isin(place * num_items + item, wanted)
    list_key, at = np.unique(place[asked] * num_days + day[asked], return_inverse=True)
    targets = Ragged.from_pairs(row_E=at, value_E=item[asked], num_rows=len(list_key))
    return view.rows[list_key // num_days], list_key % num_days, targets


def ranking_views(tables: FeatureTables, table: CutTable, items: Items, *, known: np.ndarray) -> list[View]:
    """All items; items new to the user; items first seen after the cut; users without history."""
    seen, targets = seen_and_targets(tables, table)
    num_items = tables.num_items + 1
    catalogue = np.arange(num_items) > 0
    key_seen = seen.row_of_entry * num_items + seen.values
    key_target = targets.row_of_entry * num_items + targets.values
    is_new = ~np.isin(key_target, key_seen)
    is_known = known[targets.values]
    warm = (table.prefix_length > 0)[targets.row_of_entry]
    hides = bool(tables.metadata["filter_seen"])
    picks = {
        "all": (warm & is_known & (is_new if hides else True), known & catalogue, hides),
        "not_yet_bought": (warm & is_known & is_new, known & catalogue, True),
        "cold_items": (warm & ~is_known, ~known & catalogue, False),
        "cold_users": (~warm & is_known, known & catalogue, False),
    }
    views = []
    for name, (mask, candidate, hides_seen) in picks.items():
        rows, counts = np.unique(targets.row_of_entry[mask], return_counts=True)
        offsets = np.r_[0, np.cumsum(counts)]
        views.append(View(name, rows, Ragged(offsets, targets.values[mask]), candidate, hides_seen))
    return views


def category_of(tables: FeatureTables, items: Items) -> np.ndarray | None:
    """int (V + 1,), 0 where it is unknown: the item field `category`; None for a data set without one."""
    names = [field["name"] for field in tables.metadata["item_fields"]]
    return items.categorical[:, names.index(_CATEGORY)] if _CATEGORY in names else None


def impressions_of(tables: FeatureTables) -> pa.Table | None:
    """The impressions handed back with the tables; None where there are none."""
    folder = tables.dir / Table.IMPRESSIONS
    table = pq.read_table(folder) if folder.is_dir() else None
    return table if table is not None and table.num_rows else None


def carried(tables: FeatureTables, items: Items, *, policy: PolicyConfig, at: int) -> sparse.csr_array | None:
    """(U + 1, C + 1) What users were shown of every category before a time, as the policy remembers it, by
    user_index; None where it remembers nothing, or nothing was handed back.
    """
    category_V, impressions = category_of(tables, items), impressions_of(tables)
    if policy.category_memory_days == 0 or category_V is None or impressions is None:
        return None
    return shown_before(
        impressions,
        user_key_U=np.asarray(tables.histories.user_key),
        item_id_V=items.item_id,
        category_V=category_V,
        at=at,
        half_life_days=policy.category_memory_days,
    )


def candidate_scores(
    score_BV: np.ndarray, *, candidate: np.ndarray, seen: Ragged | None, rows: np.ndarray
) -> np.ndarray:
    """float32 (B, V): -inf for what is no candidate and, with `seen`, for what that row of it holds."""
    found: np.ndarray = np.where(candidate, score_BV, -np.inf).astype(np.float32)
    if seen is not None:
        for b, row in enumerate(rows):
            found[b, seen.row(int(row))] = -np.inf
    return found


def shuffled(num_items: int) -> np.ndarray:
    """All item_index, padding too, in the order in which equal scores come."""
    return np.random.default_rng(0).permutation(num_items)


def top_ranked(
    score_BV: np.ndarray, *, candidate: np.ndarray, seen: Ragged | None, rows: np.ndarray, k: int = MAX_RANK
) -> np.ndarray:
    """(B, k) item_index by falling score, 0 where candidates run out. Equal scores: a fixed shuffle of items,
    so that a ranker that says nothing about them gains nothing from their order."""
    score_BV = candidate_scores(score_BV, candidate=candidate, seen=seen, rows=rows)
    shuffle = shuffled(score_BV.shape[1])
    score_BV = score_BV[:, shuffle]
    num_found = min(k, score_BV.shape[1])
    top = np.argpartition(-score_BV, num_found - 1, axis=1)[:, :num_found]
    top_score = np.take_along_axis(score_BV, top, 1)
    order = np.argsort(-top_score, axis=1, kind="stable")
    ranked = shuffle[np.take_along_axis(top, order, 1)]
    ranked = np.where(np.isfinite(np.take_along_axis(top_score, order, 1)), ranked, 0)
    return np.pad(ranked, ((0, 0), (0, k - num_found)))


def _items_between(item: np.ndarray, mask: np.ndarray, begin: np.ndarray, end: np.ndarray) -> Ragged:
    """Distinct items of masked events begin : end of each row."""
    counts = np.maximum(end - begin, 0)
    row = np.repeat(np.arange(len(begin)), counts)
    at = begin[row] + np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    keep = np.asarray(mask)[at]
    pairs = np.unique(np.stack([row[keep], np.asarray(item)[at[keep]].astype(np.int64)], 1), axis=0)
    sizes = np.bincount(pairs[:, 0], minlength=len(begin)) if len(pairs) else np.zeros(len(begin), np.int64)
    return Ragged(
        np.r_[0, np.cumsum(sizes)].astype(np.int64), pairs[:, 1] if len(pairs) else np.zeros(0, np.int64)
    )
