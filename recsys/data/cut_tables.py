"""Each user at each cut: Parquet rows in any order -> mapped arrays, by cut and then by user.

Legend: E examples of all cuts, U users, A activity columns (FeatureTables.activity_names), F profile fields,
H horizons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.data.flat import lists_in_place, parquet_batches, parquet_files
from recsys.data.mapped import GrowingArrays, mapped_array, open_mapped
from recsys.disk import built_once
from recsys.schema import SECONDS_PER_DAY, Column, Split, Table

if TYPE_CHECKING:
    from recsys.data.tables import FeatureTables

_FILES = "cuts-2"  # another number whenever what is in them changes
_BLOCK = 50_000  # users or rows at a time
_UNKNOWN = {"activity": np.nan, "spend": np.nan, "next_active_days": np.inf}  # of the others: 0


@dataclass(frozen=True)
class CutTable:
    """Everything known of each user at one cut, sorted by user_index (U rows)."""

    cut: int
    user_index: np.ndarray  # int64
    prefix_length: np.ndarray  # int64
    activity: np.ndarray  # float64 (U, A), nan for users without history
    profile: np.ndarray  # int64 (U, F)
    spend: np.ndarray  # float64 (U, H), nan where there is no target
    num_purchases: np.ndarray  # int64 (U, H)
    num_active_days: np.ndarray  # int64 (U, H)
    next_active_days: np.ndarray  # float64 (U,), inf where no event followed
    observed_days: np.ndarray  # float64 (U,)

    def of_users(self, low: int, high: int) -> CutTable:
        """The rows of the zero-based users low : high."""
        return self.rows(slice(*np.searchsorted(self.user_index, [low + 1, high + 1])))

    def rows(self, at: slice | np.ndarray) -> CutTable:
        return CutTable(self.cut, *(getattr(self, name)[at] for name in _COLUMNS))

    def thinned(self, most: int) -> CutTable:
        """At most so many rows, evenly spaced."""
        step = max(1, -(-len(self.user_index) // most))
        return CutTable(self.cut, *(getattr(self, name)[::step] for name in _COLUMNS))

    def with_anyone(self) -> CutTable:
        """With one more row: a user of whom nothing is known."""

        def added(values: np.ndarray, fill: float) -> np.ndarray:
            return np.concatenate([values, np.full((1, *values.shape[1:]), fill, values.dtype)])

        return replace(
            self,
            # any user will do, no event of a prefix of length 0 is read; the last one is near the others
            user_index=added(self.user_index, self.user_index[-1] if len(self.user_index) else 1),
            prefix_length=added(self.prefix_length, 0),
            activity=added(self.activity, np.nan),
            profile=added(self.profile, 0),
            spend=added(self.spend, np.nan),
            num_purchases=added(self.num_purchases, 0),
            num_active_days=added(self.num_active_days, 0),
            next_active_days=added(self.next_active_days, np.inf),
            observed_days=added(self.observed_days, 0),
        )

    def blocks(self) -> Iterator[CutTable]:
        """A bounded number of rows at a time."""
        for low in range(0, len(self.user_index), _BLOCK):
            yield self.rows(slice(low, low + _BLOCK))


_COLUMNS = tuple(field.name for field in fields(CutTable) if field.name != "cut")


def open_cut_tables(tables: FeatureTables) -> dict[tuple[str, int], CutTable]:
    """The tables of all (split, cut) of a version, mapped; made on first use."""
    keys = [
        (split, int(cut))
        for split, cuts in tables.metadata["split"]["cuts"].items()
        for cut in np.atleast_1d(cuts)
    ]
    if not tables.is_time_split:  # one snapshot serves all; only here are those of whom nothing is held out
        keys.insert(0, (Split.TRAIN, tables.cut(Split.VALIDATION)))
    folder = built_once(
        tables.cache_dir / f"{tables.version}-{_FILES}", lambda folder: _build(tables, keys, folder)
    )
    start = open_mapped(folder / "start.npy")
    arrays = {name: open_mapped(folder / f"{name}.npy") for name in _COLUMNS}
    return {
        key: CutTable(key[1], *(array[start[k] : start[k + 1]] for array in arrays.values()))
        for k, key in enumerate(keys)
    }


def _build(tables: FeatureTables, keys: list[tuple[str, int]], folder: Path) -> None:
    start = _write_examples(tables, keys, folder)
    num_horizons = len(tables.horizons_days)
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        "activity": (np.float64, (len(tables.activity_names),)),
        "profile": (np.int64, (len(tables.metadata["profile_fields"]),)),
        "spend": (np.float64, (num_horizons,)),
        "num_purchases": (np.int64, (num_horizons,)),
        "num_active_days": (np.int64, (num_horizons,)),
        "next_active_days": (np.float64, ()),
        "observed_days": (np.float64, ()),
    }
    out = {
        name: mapped_array(folder / f"{name}.npy", dtype, (int(start[-1]), *shape))
        for name, (dtype, shape) in shapes.items()
    }
    for name, unknown in _UNKNOWN.items():
        out[name][...] = unknown
    user_index = open_mapped(folder / "user_index.npy")
    rows = _Rows([cut for _, cut in keys], user_index, start)
    _write_users(tables.dir / Table.USER_FEATURES, rows, out, names=tables.activity_names)
    if (tables.dir / Table.VALUE_TARGETS).is_dir() and num_horizons:
        _write_targets(tables.dir / Table.VALUE_TARGETS, rows, out)
    if tables.is_time_split:
        for k, (split, cut) in enumerate(keys):
            if split == Split.VALIDATION:  # the test window must not choose settings
                watched_days = (tables.cut(Split.TEST) - cut) / SECONDS_PER_DAY
                _end_after(watched_days, tables.horizons_days, out, int(start[k]), int(start[k + 1]))


def _write_examples(tables: FeatureTables, keys: list[tuple[str, int]], folder: Path) -> np.ndarray:
    """user_index and prefix_length by cut and user, through a file of every user at every cut.

    Returns int64 (cuts + 1,), where each cut's rows start.
    """
    num_users = int(tables.metadata["num_users"])
    path = folder / "place.npy"
    length_CU = mapped_array(path, np.int32, (len(keys), num_users + 1))  # 1 + prefix_length; 0: no example
    columns = [Column.USER_INDEX, Column.CUT, Column.SPLIT, Column.PREFIX_LENGTH]
    for batch in parquet_batches(parquet_files(tables.dir / Table.EXAMPLES), columns):
        for k, (split, cut) in enumerate(keys):
            chosen = pc.and_(pc.equal(batch[Column.CUT], cut), pc.equal(batch[Column.SPLIT], split))
            part = batch.filter(chosen)
            length_CU[k, part[Column.USER_INDEX].to_numpy()] = 1 + part[Column.PREFIX_LENGTH].to_numpy()
    start = np.zeros(len(keys) + 1, np.int64)
    with GrowingArrays(folder) as out:
        out.append(user_index=np.zeros(0, np.int64), prefix_length=np.zeros(0, np.int64))
        for k in range(len(keys)):
            start[k + 1] = start[k]
            for low in range(0, num_users + 1, _BLOCK):
                length = length_CU[k, low : low + _BLOCK]
                has = np.flatnonzero(length)
                out.append(user_index=has + low, prefix_length=length[has].astype(np.int64) - 1)
                start[k + 1] += len(has)
    path.unlink()
    np.save(folder / "start.npy", start)
    return start


@dataclass(frozen=True)
class _Rows:
    """Where the row of a user at a cut lies."""

    cuts: list[int]
    user_index: np.ndarray
    start: np.ndarray

    def of(self, batch: pa.RecordBatch, cut_column: str) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        """Parts of a batch that have an example, with their rows; one cut may be that of two splits."""
        cut, user = batch[cut_column].to_numpy(), batch[Column.USER_INDEX].to_numpy()
        for k, wanted in enumerate(self.cuts):
            mine = np.flatnonzero(cut == wanted)
            present = self.user_index[self.start[k] : self.start[k + 1]]
            if not len(mine) or not len(present):
                continue
            at = np.minimum(np.searchsorted(present, user[mine]), len(present) - 1)
            found = present[at] == user[mine]
            yield batch.take(pa.array(mine[found])), self.start[k] + at[found]


def _write_users(folder: Path, rows: _Rows, out: Mapping[str, np.ndarray], *, names: tuple[str, ...]) -> None:
    files = parquet_files(folder)
    known = [name for name in names if name in pq.read_schema(files[0]).names]
    for batch in parquet_batches(files, [Column.USER_INDEX, Column.VALID_FROM, Column.PROFILE, *known]):
        for part, at in rows.of(batch, Column.VALID_FROM):
            for name in known:
                out["activity"][at, names.index(name)] = part[name].to_numpy(zero_copy_only=False)
            lists_in_place(part[Column.PROFILE], at, out["profile"])


def _write_targets(folder: Path, rows: _Rows, out: Mapping[str, np.ndarray]) -> None:
    lists = {
        "spend": Column.SPEND,
        "num_purchases": Column.NUM_PURCHASES,
        "num_active_days": Column.NUM_ACTIVE_DAYS,
    }
    numbers = [Column.NEXT_ACTIVE_DAYS, Column.OBSERVED_DAYS]
    for batch in parquet_batches(
        parquet_files(folder), [Column.USER_INDEX, Column.CUT, *lists.values(), *numbers]
    ):
        for part, at in rows.of(batch, Column.CUT):
            for name, column in lists.items():
                lists_in_place(part[column], at, out[name])
            following, observed = (part[column].to_numpy(zero_copy_only=False) for column in numbers)
            out["next_active_days"][at] = np.where(np.isnan(following), np.inf, following)
            out["observed_days"][at] = observed


def _end_after(
    watched_days: float, horizons_days: list[int], out: Mapping[str, np.ndarray], start: int, end: int
) -> None:
    """Whatever lies further from the cut is unknown in the rows start : end."""
    for low in range(start, end, _BLOCK):
        at = slice(low, min(low + _BLOCK, end))
        out["observed_days"][at] = np.minimum(out["observed_days"][at], watched_days)
        out["spend"][at, np.asarray(horizons_days) > watched_days + 1e-6] = np.nan
        following = out["next_active_days"][at]
        out["next_active_days"][at] = np.where(following <= watched_days, following, np.inf)
