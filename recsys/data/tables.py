"""A published version of the feature tables, as numpy arrays ready for batches and baselines."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.data.content import MAX_WORDS, ItemContent, open_content
from recsys.data.cut_tables import CutTable, open_cut_tables
from recsys.data.flat import FlatHistories, lists_in_place, open_histories
from recsys.schema import SCHEMA_VERSION, Column, InputError, Split, SplitKind, Table, UserNumeric

_ITEM_COLUMNS = (
    *(Column.ITEM_INDEX, Column.ITEM_ID, Column.VALID_FROM, Column.FIRST_SEEN, Column.TEXT, Column.PRICE),
    *(Column.CATEGORICAL, Column.NUMERIC, Column.TOKENS, Column.POPULARITY, Column.IN_TRAINING),
)


@dataclass(frozen=True)
class Items:
    """Content of the items at one cut; row 0 is padding. item_id: list of V + 1 strings."""

    categorical: np.ndarray  # int64 (V + 1, F)
    numeric: np.ndarray  # float32 (V + 1, N)
    tokens: np.ndarray  # int64 (V + 1, T)
    in_training: np.ndarray  # bool (V + 1,)
    popularity: np.ndarray  # int64 (V + 1,)
    price: np.ndarray  # float64 (V + 1,), nan where unknown
    first_seen: np.ndarray  # int64 (V + 1,)
    item_id: np.ndarray  # object (V + 1,)
    text: np.ndarray  # object (V + 1,)


class FeatureTables:
    """One version folder. Raises InputError where it is missing, half there or of another schema version."""

    def __init__(self, *, tables_dir: str | Path, cache_dir: str | Path = "outputs/cache") -> None:
        self.dir = Path(tables_dir).resolve()
        path = self.dir / Table.METADATA
        if not path.is_file():
            raise InputError(f"{tables_dir} holds no feature tables; run `python -m spark_jobs dataset=NAME`")
        try:
            self.metadata: dict[str, Any] = json.loads(path.read_text())
        except ValueError as error:
            raise InputError(f"{path} is not JSON ({error}); run `python -m spark_jobs` again") from error
        found = self.metadata.get("schema_version")
        if found != SCHEMA_VERSION:
            raise InputError(
                f"{tables_dir} has schema version {found}, this code reads {SCHEMA_VERSION}; rebuild them"
            )
        self.cache_dir = Path(cache_dir)

    @property
    def version(self) -> str:
        return str(self.metadata["version"])

    @property
    def fingerprint(self) -> str:
        """sha256 of the metadata: the hashes of the sources and of the split, the counts, the scalers."""
        return hashlib.sha256(json.dumps(self.metadata, sort_keys=True).encode()).hexdigest()

    @property
    def num_items(self) -> int:
        return int(self.metadata["num_items"])

    @property
    def is_time_split(self) -> bool:
        return bool(self.metadata["split"]["kind"] == SplitKind.TIME)

    @property
    def has_time(self) -> bool:
        """Whether ages count: timestamps are times and so are cuts. Elsewhere order alone decides."""
        return bool(self.metadata["has_time"]) and self.is_time_split

    @property
    def has_value(self) -> bool:
        """Whether spend can be assessed: there is money, and time to count it in."""
        return bool(self.metadata["has_value"]) and self.has_time

    @property
    def horizons_days(self) -> list[int]:
        return [int(h) for h in self.metadata["split"]["horizons_days"]]

    @property
    def window_days(self) -> int:
        return int(self.metadata["split"].get("window_days") or 0)

    @property
    def activity_names(self) -> tuple[str, ...]:
        """Numbers of user_features: what a user has done, and their edges where there is a follow graph."""
        told = self.metadata.get("user_numeric", ())
        return UserNumeric.ALL + tuple(name for name in UserNumeric.GRAPH if name in told)

    def cut(self, split: str) -> int:
        """Timestamp of the validation or the test cut (0 for leave_one_out), or of the end of the data."""
        if split not in (*Split.HELD_OUT, Split.NOW):
            raise InputError(f"{split} is no split with one cut; use {Split.VALIDATION} or {Split.TEST}")
        if split == Split.NOW and not self.is_time_split:
            raise InputError(
                f"data set {self.metadata['dataset']} is split by {SplitKind.LEAVE_ONE_OUT}, which has no cut"
                f" {Split.NOW}; use {Split.TEST}"
            )
        return int(self.metadata["split"]["cuts"][split])

    @cached_property
    def target_types(self) -> np.ndarray:
        names = self.metadata["event_types"]
        return np.array([names[name] for name in self.metadata["target_event_types"]])

    @cached_property
    def histories(self) -> FlatHistories:
        return open_histories(
            tables_dir=self.dir,
            cache_dir=self.cache_dir,
            num_users=int(self.metadata["num_users"]),
            version=self.version,
        )

    def items(self, split: str) -> Items:
        """Content as known at the cut of `split`."""
        table = self._read_items()
        table = table.filter(pc.equal(table[Column.VALID_FROM], self.cut(split)))
        rows = table[Column.ITEM_INDEX].to_numpy()
        size = self.num_items + 1

        def column(name: str, dtype: Any, fill: Any = 0) -> np.ndarray:
            out = np.full(size, fill, dtype)
            out[rows] = table[name].to_numpy()
            return out

        numeric = np.nan_to_num(_dense(table[Column.NUMERIC], rows, size, np.float32))
        return Items(
            categorical=_dense(table[Column.CATEGORICAL], rows, size, np.int64),
            numeric=numeric,
            tokens=_dense(table[Column.TOKENS], rows, size, np.int64, at_most=MAX_WORDS),
            in_training=column(Column.IN_TRAINING, bool, False),
            popularity=column(Column.POPULARITY, np.int64),
            price=column(Column.PRICE, np.float64, np.nan),
            first_seen=column(Column.FIRST_SEEN, np.int64),
            item_id=column(Column.ITEM_ID, object, ""),
            text=column(Column.TEXT, object, ""),
        )

    def content(self, split: str, times: np.ndarray) -> ItemContent:
        """What a model reads of `items`, with popularity at each of the times: memory-mapped."""
        return open_content(self, split, times)

    def at_cut(self, *, split: str, cut: int | None = None) -> CutTable:
        """The examples of a split, memory-mapped; `cut` picks one of several training cuts."""
        return self._cut_tables[split, self.cut(split) if cut is None else cut]

    @cached_property
    def _cut_tables(self) -> dict[tuple[str, int], CutTable]:
        return open_cut_tables(self)

    def _read_items(self) -> pa.Table:
        folder = self.dir / Table.ITEM_FEATURES
        try:
            table = pq.read_table(folder)
        except FileNotFoundError as error:
            raise InputError(f"{folder} is missing; run `python -m spark_jobs` again") from error
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{folder} cannot be read ({error}); run `python -m spark_jobs` again"
            ) from error
        missing = [column for column in _ITEM_COLUMNS if column not in table.column_names]
        if missing:
            raise InputError(f"{folder} has no column {missing[0]}; run `python -m spark_jobs` again")
        return table


def resolve_tables(*, features_dir: str, dataset: str, version: str) -> Path:
    """Folder of a version; `latest` follows the symlink that the job switches when a version is complete."""
    folder = Path(features_dir) / dataset / version
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist; run `python -m spark_jobs dataset={dataset}` first")
    return folder.resolve()


def _dense(column: Any, rows: np.ndarray, size: int, dtype: Any, at_most: int | None = None) -> np.ndarray:
    """List column -> (size, longest) array, row `rows[k]` from entry k, padded with 0."""
    lists = column.combine_chunks()
    lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) and lists.num_chunks else lists
    if not len(lists):
        return np.zeros((size, 0), dtype)
    width = int(np.diff(lists.offsets.to_numpy()).max(initial=0))
    width = min(width, at_most) if at_most else width
    out = np.zeros((size, width), dtype)
    lists_in_place(lists, rows, out)
    return out
