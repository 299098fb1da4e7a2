"""Sequences of items as feature tables, without Spark: an order and no time, no content, no profiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.schema import PAD, SCHEMA_VERSION, Split, SplitKind, Table, UserNumeric

USERS_PER_FILE = 50_000
NO_CUT = 0


def write_tables(folder: Path, *, offsets: np.ndarray, item_index: np.ndarray, num_items: int) -> None:
    """A version folder in which every event may be learned from. offsets (U + 1,) slice item_index (E,)."""
    num_users = len(offsets) - 1
    for name in (Table.HISTORIES, Table.EXAMPLES, Table.USER_FEATURES, Table.ITEM_FEATURES):
        (folder / name).mkdir(parents=True)
    for low in range(0, num_users, USERS_PER_FILE):
        bounds = offsets[low : low + USERS_PER_FILE + 1]
        events = item_index[bounds[0] : bounds[-1]]
        for name, table in _of_users(low, bounds - bounds[0], events).items():
            pq.write_table(table, folder / name / f"part-{low:09}.parquet", row_group_size=10_000)
    pq.write_table(_items(num_items), folder / Table.ITEM_FEATURES / "part-0.parquet")
    split = {"kind": SplitKind.LEAVE_ONE_OUT, "cuts": dict.fromkeys(Split.HELD_OUT, NO_CUT)}
    metadata: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "version": "v1", "dataset": "sequences"}
    metadata |= {"num_users": num_users, "num_items": num_items, "item_capacity": num_items}
    metadata |= {"date_range": [0, int(np.diff(offsets).max())], "num_tokens": 0}
    metadata |= {"has_time": False, "has_value": False, "filter_seen": True}
    metadata |= {"event_types": {"rating": 1}, "target_event_types": ["rating"]}
    metadata |= {"profile_fields": [], "item_fields": [], "item_numeric": []}
    metadata |= {"split": {**split, "horizons_days": [], "hash": ""}}
    (folder / Table.METADATA).write_text(json.dumps(metadata))


def _of_users(first: int, offsets: np.ndarray, item_index: np.ndarray) -> dict[str, pa.Table]:
    """offsets start with 0."""
    counts = np.diff(offsets)
    user_index = np.arange(first + 1, first + 1 + len(counts), dtype=np.int32)
    place = np.arange(len(item_index)) - np.repeat(offsets[:-1], counts)
    events = {
        "item_index": item_index.astype(np.int32),
        "event_type": np.ones(len(item_index), np.int32),
        "timestamp": place,
        "value": np.zeros(len(item_index)),
        "returned_at": np.zeros(len(item_index), np.int64),
    }
    lists = {name: pa.ListArray.from_arrays(offsets.astype(np.int32), c) for name, c in events.items()}
    key = pa.array([f"{user:064x}" for user in user_index])
    history = {"user_index": user_index, "user_key": key, "num_events": counts.astype(np.int32)}
    no_cut = np.full(len(counts), NO_CUT, np.int64)
    examples = pa.concat_tables(
        pa.table(
            {
                "user_index": user_index,
                "cut": no_cut,
                "split": [split] * len(counts),
                "prefix_length": history["num_events"],
            }
        )
        for split in Split.HELD_OUT
    )
    numbers = {name: np.zeros(len(counts)) for name in UserNumeric.ALL}
    profile = pa.array([[]] * len(counts), pa.list_(pa.int32()))
    return {
        Table.HISTORIES: pa.table({**history, "window_index": np.zeros(len(counts), np.int32), **lists}),
        Table.EXAMPLES: examples,
        Table.USER_FEATURES: pa.table(
            {"user_index": user_index, "valid_from": no_cut, "profile": profile, **numbers}
        ),
    }


def _items(num_items: int) -> pa.Table:
    index = np.arange(PAD + 1, num_items + 1, dtype=np.int32)
    zeros = np.zeros(num_items, np.int64)
    return pa.table(
        {
            "item_index": index,
            "item_id": index.astype(str),
            "valid_from": np.full(num_items, NO_CUT),
            "first_seen": zeros,
            "text": pa.array([""] * num_items),
            "price": np.full(num_items, np.nan),
            "categorical": pa.array([[]] * num_items, pa.list_(pa.int32())),
            "numeric": pa.array([[]] * num_items, pa.list_(pa.float32())),
            "tokens": pa.array([[]] * num_items, pa.list_(pa.int32())),
            "popularity": zeros,
            "in_training": np.ones(num_items, bool),
        }
    )
