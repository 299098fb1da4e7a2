"""Sequences to train on: real or drawn, and the sizes of the model that learns from them.

Legend: U users, E events.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.sequence_tables import write_tables

ROOT = Path(__file__).resolve().parents[1]
ML_1M = "ml-1m/sasrec_version_5core.parquet"
# Of ML-1M's sequences, where they are not at hand: users, items, median and spread of the log-lengths.
LONG_USERS, LONG_ITEMS, LONG_MEDIAN, LONG_SPREAD, LEAST_LONG = 6_040, 3_416, 96.0, 0.99, 18
SHORT_USERS, SHORT_ITEMS, SHORT_MEDIAN, SHORT_SPREAD = 40_000, 12_000, 6.0, 0.7
POPULARITY_POWER = 0.4  # of a drawn item's place in the order of popularity


@dataclass(frozen=True, kw_only=True)
class Size:
    """A model, its batch, and the name of its data; every model of a comparison has this size."""

    data: str
    width: int = 64
    num_blocks: int = 2
    num_heads: int = 2
    max_length: int = 200
    batch_rows: int = 128
    dropout: float = 0.2


SIZES = {
    "ml_1m": Size(data="ml_1m"),
    "short": Size(data="short"),
    "ml_1m_wide": Size(data="ml_1m", width=256, num_blocks=4, num_heads=4),
    "toy": Size(data="toy", width=16, max_length=12, batch_rows=16),
}


@dataclass(frozen=True)
class Workload:
    """Each user's newest `size.max_length` events, oldest first; items count from 1."""

    size: Size
    offsets: np.ndarray  # int64 (U + 1,)
    item_index: np.ndarray  # int32 (E,)
    num_items: int
    folder: Path  # holds the same as feature tables, in `tables`

    @property
    def mean_length(self) -> float:
        return len(self.item_index) / (len(self.offsets) - 1)


def write_workload(folder: Path, name: str) -> None:
    size = SIZES[name]
    offsets, item_index, num_items = _newest(*sequences(size.data), most=size.max_length)
    np.savez(folder / "sequences.npz", offsets=offsets, item_index=item_index)
    (folder / "workload.json").write_text(json.dumps({"size": asdict(size), "num_items": num_items}))
    write_tables(folder / "tables", offsets=offsets, item_index=item_index, num_items=num_items)


def open_workload(folder: Path) -> Workload:
    about, arrays = json.loads((folder / "workload.json").read_text()), np.load(folder / "sequences.npz")
    return Workload(
        Size(**about["size"]), arrays["offsets"], arrays["item_index"], about["num_items"], folder
    )


def sequences(data: str) -> tuple[np.ndarray, np.ndarray, int]:
    """offsets (U + 1,), item_index (E,) and the number of items."""
    if data == "short":
        return drawn(SHORT_USERS, SHORT_ITEMS, median=SHORT_MEDIAN, spread=SHORT_SPREAD, least=2)
    if data == "toy":
        return drawn(300, 50, median=SHORT_MEDIAN, spread=SHORT_SPREAD, least=2)
    path = Path(os.environ.get("RECSYS_SHARED_DATA", ROOT.parent / "shared" / "data")) / ML_1M
    if not path.is_file():
        print("ml-1m is not there, drawn lengths stand for it; RECSYS_SHARED_DATA names the folder above it")
        return drawn(LONG_USERS, LONG_ITEMS, median=LONG_MEDIAN, spread=LONG_SPREAD, least=LEAST_LONG)
    table = pq.read_table(path, columns=["sas_user", "sas_item", "pos"])
    user, item, place = (table[name].to_numpy().astype(np.int64) for name in table.column_names)
    order = np.lexsort((place, user))
    return np.r_[0, np.cumsum(np.bincount(user)[1:])], item[order].astype(np.int32), int(item.max())


def drawn(
    num_users: int, num_items: int, *, median: float, spread: float, least: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, int]:
    """Lognormal lengths; few items have most of the events."""
    rng = np.random.default_rng(seed)
    lengths = np.maximum(rng.lognormal(np.log(median), spread, num_users).round().astype(np.int64), least)
    place = rng.power(POPULARITY_POWER, lengths.sum())
    return np.r_[0, np.cumsum(lengths)], 1 + (place * num_items).astype(np.int32), num_items


def _newest(
    offsets: np.ndarray, item_index: np.ndarray, num_items: int, *, most: int
) -> tuple[np.ndarray, np.ndarray, int]:
    lengths = np.diff(offsets)
    place_from_end = np.repeat(offsets[1:], lengths) - np.arange(len(item_index))
    kept = place_from_end <= most
    return np.r_[0, np.cumsum(np.minimum(lengths, most))], item_index[kept], num_items
