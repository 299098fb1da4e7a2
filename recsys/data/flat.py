"""List columns of the histories table -> flat memory-mapped files, shared by ranks and workers of a node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.mapped import mapped_array, open_mapped
from recsys.data.query_words import WORD_FILES, write_words
from recsys.disk import built_once
from recsys.schema import Column, InputError, Table

_COLUMNS = {
    Column.ITEM_INDEX: np.int32,
    Column.EVENT_TYPE: np.int32,
    Column.TIMESTAMP: np.int64,
    Column.VALUE: np.float64,
    Column.RETURNED_AT: np.int64,
}
_DWELL = {Column.DWELL_S: np.float32}  # where the data set tells it
_WINDOW = (Column.USER_INDEX, Column.WINDOW_INDEX, Column.NUM_EVENTS)
_MOST_WINDOWS = np.int64(1) << 31
BLOCK_ROWS = 500_000


@dataclass(frozen=True)
class FlatHistories:
    """Events of all users in CSR form: user_index u holds events offsets[u - 1] : offsets[u]. Memory-mapped.

    offsets: int64 (U + 1,); the others (E,): item_index int32, event_type int32, timestamp int64,
    value float64 (money), returned_at int64 (0 = not returned); user_key: string (U,).
    Where the data set tells them: dwell_s float32 (E,), 0 = unknown; words of searches, those of event e are
    word[word_start[e] : word_start[e + 1]], int64 (E + 1,) and int32.
    """

    offsets: np.ndarray
    item_index: np.ndarray
    event_type: np.ndarray
    timestamp: np.ndarray
    value: np.ndarray
    returned_at: np.ndarray
    user_key: np.ndarray
    dwell_s: np.ndarray | None = None
    word_start: np.ndarray | None = None
    word: np.ndarray | None = None

    @property
    def num_users(self) -> int:
        return len(self.offsets) - 1

    def blocks(self, *, rows_per_user: int = 0) -> Iterator[tuple[int, int]]:
        """Zero-based users low : high, block after block, each of a bounded number of events and of rows
        that come with every user; at least one block.
        """
        low, most_users = 0, 1 + BLOCK_ROWS // (1 + rows_per_user)
        while low < self.num_users or not low:
            ends = np.asarray(self.offsets[low + 1 : low + 1 + most_users])
            rows = ends - self.offsets[low] + rows_per_user * np.arange(1, len(ends) + 1)
            high = low + max(int(np.searchsorted(rows, BLOCK_ROWS, "right")), min(len(ends), 1))
            yield low, high
            if high == low:
                return
            low = high


def open_histories(
    *, tables_dir: Path, cache_dir: Path, num_users: int, version: str | None = None
) -> FlatHistories:
    """Map the flat files of a table version, made on first use and renamed into place when complete.

    `version`: what the files are kept under, None: the folder's name, which a copy of the tables may lack.
    """
    target = built_once(
        cache_dir / (version or tables_dir.resolve().name),
        lambda folder: _flatten(tables_dir / Table.HISTORIES, folder, num_users),
    )
    names = ["offsets", *_COLUMNS, "user_key"]
    names += [name for name in (*_DWELL, *WORD_FILES) if (target / f"{name}.npy").exists()]
    return FlatHistories(**{name: open_mapped(target / f"{name}.npy") for name in names})


def _flatten(folder: Path, out: Path, num_users: int) -> None:
    """Two passes over the row groups: sizes, then each user's windows into their place; and two more over
    the words of searches, where there are any.
    """
    files = parquet_files(folder)
    there = pq.read_schema(files[0]).names
    columns = _COLUMNS | {name: kind for name, kind in _DWELL.items() if name in there}
    offsets = mapped_array(out / "offsets.npy", np.int64, (num_users + 1,))
    user_key = mapped_array(out / "user_key.npy", "U64", (num_users,))
    later: list[np.ndarray] = []  # windows of long users, without each one's first
    for batch in parquet_batches(files, [*_WINDOW, Column.USER_KEY]):
        user, window, count = (batch[column].to_numpy().astype(np.int64) for column in _WINDOW)
        np.add.at(offsets, user, count)
        user_key[user - 1] = batch[Column.USER_KEY].to_numpy(zero_copy_only=False).astype("U64")
        later.append(np.stack([user, window, count])[:, window > 0])
    np.cumsum(offsets, out=offsets)
    starts = _LaterWindows(*np.concatenate(later, 1), offsets=offsets)
    flat = {
        name: mapped_array(out / f"{name}.npy", dtype, (int(offsets[-1]),)) for name, dtype in columns.items()
    }

    def placed(*names: str) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Batches with these columns, and where each of their events belongs."""
        for batch in parquet_batches(files, [*_WINDOW, *names]):
            user, window, count = (batch[column].to_numpy().astype(np.int64) for column in _WINDOW)
            start = np.where(window > 0, starts.of(user, window), offsets[user - 1])
            yield np.repeat(start - np.cumsum(count) + count, count) + np.arange(count.sum()), batch

    for place, batch in placed(*columns):
        for name, mapped in flat.items():
            mapped[place] = batch[name].flatten().to_numpy()
    if Column.QUERY in there:
        write_words(lambda: placed(Column.QUERY), out, num_events=int(offsets[-1]))


class _LaterWindows:
    """Where the second and further windows of users start: the last ends with the user."""

    def __init__(
        self, user: np.ndarray, window: np.ndarray, count: np.ndarray, *, offsets: np.ndarray
    ) -> None:
        order = np.lexsort((window, user))
        self.key = user[order] * _MOST_WINDOWS + window[order]
        up_to = np.cumsum(count[order])
        last = np.searchsorted(user[order], user[order], "right") - 1
        self.start = offsets[user[order]] - (up_to[last] - up_to) - count[order]

    def of(self, user: np.ndarray, window: np.ndarray) -> np.ndarray:
        """int64, of first windows: anything."""
        if not len(self.key):
            return np.zeros(len(user), np.int64)
        at = np.searchsorted(self.key, user * _MOST_WINDOWS + window)
        return self.start[np.minimum(at, len(self.key) - 1)]


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
