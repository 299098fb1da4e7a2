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
import pyarrow.parquet as pq

from recsys.data.content import MAX_WORDS, ItemContent, open_content
from recsys.data.flat import FlatHistories, lists_in_place, open_histories
from recsys.schema import (
    SCHEMA_VERSION,
    SECONDS_PER_DAY,
    Column,
    InputError,
    Split,
    SplitKind,
    Table,
    UserNumeric,
)

_NEEDED = {
    Table.ITEM_FEATURES: (
        *(Column.ITEM_INDEX, Column.ITEM_ID, Column.VALID_FROM, Column.FIRST_SEEN, Column.TEXT, Column.PRICE),
        *(Column.CATEGORICAL, Column.NUMERIC, Column.TOKENS, Column.POPULARITY, Column.IN_TRAINING),
    ),
    Table.USER_FEATURES: (Column.USER_INDEX, Column.VALID_FROM, Column.PROFILE),
    Table.EXAMPLES: (Column.USER_INDEX, Column.CUT, Column.SPLIT, Column.PREFIX_LENGTH),
    Table.VALUE_TARGETS: (
        *(Column.USER_INDEX, Column.CUT, Column.SPEND, Column.NUM_PURCHASES, Column.NUM_ACTIVE_DAYS),
        *(Column.NEXT_ACTIVE_DAYS, Column.OBSERVED_DAYS),
    ),
}


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


@dataclass(frozen=True)
class CutTable:
    """Everything known of each user at one cut, sorted by user_index (U rows)."""

    cut: int
    user_index: np.ndarray  # int64
    prefix_length: np.ndarray  # int64
    activity: np.ndarray  # float64 (U, len(UserNumeric.ALL)), nan for users without history
    profile: np.ndarray  # int64 (U, F)
    spend: np.ndarray  # float64 (U, H), nan where there is no target
    num_purchases: np.ndarray  # int64 (U, H)
    num_active_days: np.ndarray  # int64 (U, H)
    next_active_days: np.ndarray  # float64 (U,), inf where no event followed
    observed_days: np.ndarray  # float64 (U,)


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
    def has_value(self) -> bool:
        """Whether spend can be assessed: there is money, and time to count it in."""
        return bool(self.metadata["has_value"] and self.metadata["has_time"] and self.is_time_split)

    @property
    def horizons_days(self) -> list[int]:
        return [int(h) for h in self.metadata["split"]["horizons_days"]]

    @property
    def window_days(self) -> int:
        return int(self.metadata["split"].get("window_days") or 0)

    def cut(self, split: str) -> int:
        """Timestamp of the validation or the test cut (0 for leave_one_out)."""
        if split not in (Split.VALIDATION, Split.TEST):
            raise InputError(f"{split} is no split with one cut; use {Split.VALIDATION} or {Split.TEST}")
        return int(self.metadata["split"]["cuts"][split])

    @cached_property
    def target_types(self) -> np.ndarray:
        names = self.metadata["event_types"]
        return np.array([names[name] for name in self.metadata["target_event_types"]])

    @cached_property
    def histories(self) -> FlatHistories:
        return open_histories(
            tables_dir=self.dir, cache_dir=self.cache_dir, num_users=int(self.metadata["num_users"])
        )

    def items(self, split: str) -> Items:
        """Content as known at the cut of `split`."""
        table = self._read(Table.ITEM_FEATURES)
        table = table.filter(pa.compute.equal(table[Column.VALID_FROM], self.cut(split)))
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
        """The examples of a split; `cut` picks one of several training cuts."""
        cut = self.cut(split) if cut is None else cut
        examples = self._examples
        chosen = (examples[Column.SPLIT] == split) & (examples[Column.CUT] == cut)
        user = examples[Column.USER_INDEX][chosen].astype(np.int64)
        prefix = examples[Column.PREFIX_LENGTH][chosen].astype(np.int64)
        order = np.argsort(user, kind="stable")
        user, prefix = user[order], prefix[order]
        activity, profile = self._users_at(cut, user)
        spend, purchases, days, following, observed = self._targets_at(cut, user)
        if split == Split.VALIDATION and self.is_time_split:  # the test window must not choose settings
            watched = (self.cut(Split.TEST) - cut) / SECONDS_PER_DAY
            observed = np.minimum(observed, watched)
            spend[:, np.asarray(self.horizons_days) > watched + 1e-6] = np.nan
            following = np.where(following <= watched, following, np.inf)
        return CutTable(cut, user, prefix, activity, profile, spend, purchases, days, following, observed)

    @cached_property
    def _examples(self) -> dict[str, np.ndarray]:
        table = self._read(Table.EXAMPLES)
        return {name: table[name].to_numpy() for name in table.column_names}

    @cached_property
    def _users(self) -> pa.Table:
        return self._read(Table.USER_FEATURES)

    @cached_property
    def _values(self) -> pa.Table | None:
        return self._read(Table.VALUE_TARGETS) if (self.dir / Table.VALUE_TARGETS).is_dir() else None

    def _users_at(self, cut: int, user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        num_fields = len(self.metadata["profile_fields"])
        activity = np.full((len(user), len(UserNumeric.ALL)), np.nan)
        profile = np.zeros((len(user), num_fields), np.int64)
        table = self._users.filter(pa.compute.equal(self._users[Column.VALID_FROM], cut))
        found, at = _match(user, table[Column.USER_INDEX].to_numpy())
        for k, name in enumerate(UserNumeric.ALL):
            if name in table.column_names:
                activity[found, k] = table[name].to_numpy()[at]
        if num_fields:
            rows = np.arange(table.num_rows)
            profile[found] = _dense(table[Column.PROFILE], rows, table.num_rows, np.int64)[at]
        return activity, profile

    def _targets_at(self, cut: int, user: np.ndarray) -> tuple[np.ndarray, ...]:
        num_horizons = len(self.horizons_days)
        spend = np.full((len(user), num_horizons), np.nan)
        purchases = np.zeros((len(user), num_horizons), np.int64)
        days = np.zeros((len(user), num_horizons), np.int64)
        following = np.full(len(user), np.inf)
        observed = np.zeros(len(user))
        if self._values is not None and num_horizons:
            table = self._values.filter(pa.compute.equal(self._values[Column.CUT], cut))
            found, at = _match(user, table[Column.USER_INDEX].to_numpy())
            rows = np.arange(table.num_rows)
            for out, name in (
                (spend, Column.SPEND),
                (purchases, Column.NUM_PURCHASES),
                (days, Column.NUM_ACTIVE_DAYS),
            ):
                out[found] = _dense(table[name], rows, table.num_rows, out.dtype)[at]
            after = table[Column.NEXT_ACTIVE_DAYS].to_numpy()[at]
            following[found] = np.where(np.isnan(after), np.inf, after)
            observed[found] = table[Column.OBSERVED_DAYS].to_numpy()[at]
        return spend, purchases, days, following, observed

    def _read(self, name: str) -> pa.Table:
        folder = self.dir / name
        try:
            table = pq.read_table(folder)
        except FileNotFoundError as error:
            raise InputError(f"{folder} is missing; run `python -m spark_jobs` again") from error
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{folder} cannot be read ({error}); run `python -m spark_jobs` again"
            ) from error
        missing = [column for column in _NEEDED[name] if column not in table.column_names]
        if missing:
            raise InputError(f"{folder} has no column {missing[0]}; run `python -m spark_jobs` again")
        return table


def resolve_tables(*, features_dir: str, dataset: str, version: str) -> Path:
    """Folder of a version; `latest` follows the symlink that the job switches when a version is complete."""
    folder = Path(features_dir) / dataset / version
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist; run `python -m spark_jobs dataset={dataset}` first")
    return folder.resolve()


def _match(wanted: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(positions in `wanted` that are present, their rows in `present`)."""
    if not len(present):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.argsort(present, kind="stable")
    at = np.minimum(np.searchsorted(present[order], wanted), len(present) - 1)
    found = np.flatnonzero(present[order][at] == wanted)
    return found, order[at[found]]


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
