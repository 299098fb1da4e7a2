"""List columns of the histories table -> flat memory-mapped files, shared by ranks and workers of a node."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.disk import built_once
from recsys.schema import Column, InputError, Table

_COLUMNS = {
    Column.ITEM_INDEX: np.int32,
    Column.EVENT_TYPE: np.int32,
    Column.TIMESTAMP: np.int64,
    Column.VALUE: np.float64,
    Column.RETURNED_AT: np.int64,
}


@dataclass(frozen=True)
class FlatHistories:
    """Events of all users in CSR form: user_index u holds events offsets[u - 1] : offsets[u]. Memory-mapped.

    offsets: int64 (U + 1,); the others (E,): item_index int32, event_type int32, timestamp int64,
    value float64 (money), returned_at int64 (0 = not returned); user_key: string (U,).
    """

    offsets: np.ndarray
    item_index: np.ndarray
    event_type: np.ndarray
    timestamp: np.ndarray
    value: np.ndarray
    returned_at: np.ndarray
    user_key: np.ndarray

    @property
    def num_users(self) -> int:
        return len(self.offsets) - 1

    def user_of_event(self) -> np.ndarray:
        """int64 (E,), zero-based user row of each event."""
        return np.repeat(np.arange(self.num_users), np.diff(self.offsets))


def open_histories(*, tables_dir: Path, cache_dir: Path, num_users: int) -> FlatHistories:
    """Map the flat files of a table version, made on first use and renamed into place when complete."""
    target = built_once(
        cache_dir / tables_dir.resolve().name,
        lambda folder: _flatten(tables_dir / Table.HISTORIES, folder, num_users),
    )
    arrays = {name: np.load(target / f"{name}.npy", mmap_mode="r") for name in (*_COLUMNS, "offsets")}
    return FlatHistories(**arrays, user_key=np.load(target / "user_key.npy", allow_pickle=False))


def _flatten(folder: Path, out: Path, num_users: int) -> None:
    """Two passes over the row groups: sizes, then each user's windows into their place."""
    files = parquet_files(folder)
    counts_U = np.zeros(num_users + 1, np.int64)
    keys_U = np.zeros(num_users, "U64")
    windows: list[np.ndarray] = []
    for batch in parquet_batches(
        files, [Column.USER_INDEX, Column.USER_KEY, Column.WINDOW_INDEX, Column.NUM_EVENTS]
    ):
        user, window, count = (
            batch[c].to_numpy() for c in (Column.USER_INDEX, Column.WINDOW_INDEX, Column.NUM_EVENTS)
        )
        np.add.at(counts_U, user, count)
        keys_U[user - 1] = batch[Column.USER_KEY].to_numpy(zero_copy_only=False).astype("U64")
        windows.append(np.stack([user, window, count], 1).astype(np.int64))
    offsets = np.cumsum(counts_U)
    rows = np.concatenate(windows)
    order = np.lexsort((rows[:, 1], rows[:, 0]))
    ends = np.cumsum(rows[order, 2])
    start_of_row = np.empty(len(rows), np.int64)
    start_of_row[order] = ends - rows[order, 2]
    for name, array in (("offsets", offsets), ("user_key", keys_U)):
        _take_room(out / f"{name}.npy", array.nbytes)
        np.save(out / f"{name}.npy", array)
    flat = {}
    for name, dtype in _COLUMNS.items():
        flat[name] = mapped_array(out / f"{name}.npy", dtype, (int(offsets[-1]),))
    at = 0
    for batch in parquet_batches(files, list(_COLUMNS)):
        for name, mapped in flat.items():
            lists = batch[name]
            values, bounds = lists.flatten().to_numpy(), lists.offsets.to_numpy()
            if not len(values):
                continue
            for k in range(len(lists)):
                start = start_of_row[at + k]
                length = bounds[k + 1] - bounds[k]
                mapped[start : start + length] = values[bounds[k] - bounds[0] : bounds[k + 1] - bounds[0]]
        at += batch.num_rows
    for mapped in flat.values():
        mapped.flush()


def mapped_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap:
    """A new memory-mapped .npy file of zeros whose room on the disk is taken."""
    mapped: np.memmap = np.lib.format.open_memmap(path, "w+", dtype, shape)  # type: ignore[no-untyped-call]
    _take_room(path, path.stat().st_size)
    return mapped


def lists_in_place(lists: pa.ListArray, rows: np.ndarray, out: np.ndarray) -> None:
    """Entry k into row `rows[k]` of a zeroed (.., width) array; what is longer than its width is left out."""
    bounds, values = lists.offsets.to_numpy(), lists.flatten().to_numpy(zero_copy_only=False)
    lengths = np.diff(bounds)
    for k in range(min(out.shape[1], int(lengths.max(initial=0)))):
        has = lengths > k
        out[rows[has], k] = values[bounds[:-1][has] - bounds[0] + k]


def parquet_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise InputError(f"{folder} holds no Parquet files; run `python -m spark_jobs` again")
    return files


def _take_room(path: Path, num_bytes: int) -> None:
    """On a full disk a write through a memory map kills the process without a word; this raises OSError."""
    with path.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, max(num_bytes, 1))


def parquet_batches(files: list[Path], columns: list[str]) -> Iterator[pa.RecordBatch]:
    for file in files:
        try:
            parquet = pq.ParquetFile(file)
            missing = sorted(set(columns) - set(parquet.schema_arrow.names))
            if missing:
                raise InputError(f"{file} has no column {missing[0]}; run `python -m spark_jobs` again")
            yield from parquet.iter_batches(columns=columns, batch_size=4096)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file} cannot be read ({error}); run `python -m spark_jobs` again") from error
