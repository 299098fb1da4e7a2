"""Old pseudonym -> new one: computed by Spark from raw ids, looked up on disk, where it lies sorted.

People whose raw id is in no table any more keep one too: of their old pseudonym, under the new key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.pseudonym import HEIR, Key
from recsys.schema import Column
from spark_jobs.columns import Event
from spark_jobs.expressions import text_column
from spark_jobs.publish import uri
from spark_jobs.session import few_rows, pin
from spark_jobs.settings import Dataset
from spark_jobs.sources import read_events, read_table
from spark_jobs.steps.pseudonymise import hmac_sha256
from spark_jobs.steps.sensitive import guarded

OLD, NEW = "old", "new"
IS_RAW = "is_raw"  # its raw id is at hand
IS_FOUND = "is_found"  # in a file that names people
NUM_DIGITS = 64
PSEUDONYM = f"[0-9a-f]{{{NUM_DIGITS}}}"
_BATCH_ROWS = 65_536
_DIGITS = f"S{NUM_DIGITS}"


def raw_ids(spark: SparkSession, dataset: Dataset, people: Collection[str]) -> DataFrame:
    """(user_id): those of all raw tables, as a run reads them, and of `people`."""
    events = guarded(read_events(spark, dataset), dataset.sensitive, path=dataset.events.path)
    named = [(events, dataset.columns.user_id, "columns.user_id", dataset.events.path)]
    if dataset.users is not None:
        path, column = dataset.users.source.path, dataset.users.user_id
        users = read_table(spark, dataset.users.source)
        named.append((guarded(users, dataset.sensitive, path=path), column, "users.user_id", path))
        if dataset.sensitive.encrypt:
            named.append((users, column, "users.user_id", path))
    if dataset.graph is not None:
        graph, path = dataset.graph, dataset.graph.source.path
        edges = guarded(read_table(spark, graph.source), dataset.sensitive, path=path)
        named.append((edges, graph.user_id, "graph.user_id", path))
        named.append((edges, graph.other_id, "graph.other_id", path))
    ids = [
        frame.select(text_column(frame, text, setting=setting, path=path).alias(Event.USER_ID))
        for frame, text, setting, path in named
    ]
    ids.append(few_rows(spark, [(person,) for person in sorted(people)], f"{Event.USER_ID} string"))
    return reduce(DataFrame.unionByName, ids).dropna().distinct()


def keys_in(spark: SparkSession, files: Sequence[Path]) -> DataFrame:
    """(user_key): the pseudonyms in Parquet files and in CSV files with a header, each once."""
    schema = f"{Column.USER_KEY} string"
    tables = [uri(file) for file in files if file.suffix == ".parquet"]
    parts = [few_rows(spark, [], schema)]
    if tables:
        reader = spark.read.schema(schema).option("recursiveFileLookup", "true")
        parts.append(reader.parquet(*tables))
    for file in (file for file in files if file.suffix == ".csv"):
        reader = spark.read.options(header=True, multiLine=True, escape='"')
        parts.append(reader.csv(uri(file)).select(Column.USER_KEY))
    keys = reduce(DataFrame.unionByName, parts)
    return keys.where(F.col(Column.USER_KEY).rlike(f"^{PSEUDONYM}$")).distinct()


def key_map(
    ids: DataFrame, found: DataFrame, renamed: DataFrame, *, old: Key, new: Key, begun: DataFrame | None
) -> DataFrame:
    """(old, new, is_raw, is_found), sorted by `old`, which is unique.

    `found`: pseudonyms in files that are under the old key, or may be; `renamed`: in files under the new one;
    `begun`: the map of a run that did not end, which still holds.
    """
    id_column, found = F.col(Event.USER_ID), pin(found)
    pairs = pin(
        ids.select(
            hmac_sha256(id_column, old.secret).alias(OLD),
            hmac_sha256(id_column, new.secret).alias(NEW),
            F.lit(True).alias(IS_RAW),
            F.lit(False).alias(IS_FOUND),
        )
    )
    known = pairs
    if begun is not None:
        known = begun.unionByName(pairs.join(begun, on=OLD, how="left_anti"))
    taken = known.select(NEW).union(pairs.select(NEW)).union(renamed.select(Column.USER_KEY))
    heirs = (
        found.select(F.col(Column.USER_KEY).alias(OLD))
        .join(known, on=OLD, how="left_anti")
        .join(taken.select(F.col(NEW).alias(OLD)), on=OLD, how="left_anti")
        .select(
            OLD,
            hmac_sha256(F.concat(F.lit(HEIR), F.col(OLD)), new.secret).alias(NEW),
            F.lit(False).alias(IS_RAW),
            F.lit(True).alias(IS_FOUND),
        )
    )
    seen = found.select(F.col(Column.USER_KEY).alias(OLD), F.lit(True).alias("seen"))
    whole = known.unionByName(heirs).join(seen, on=OLD, how="left")
    is_found = F.col(IS_FOUND) | F.coalesce("seen", F.lit(False))
    return whole.select(OLD, NEW, IS_RAW, is_found.alias(IS_FOUND)).orderBy(OLD)


def map_batches(folder: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The map as it lies in a folder of Parquet files, sorted from file to file."""
    for file in sorted(folder.glob("*.parquet")):
        yield from pq.ParquetFile(file).iter_batches(_BATCH_ROWS, columns=list(columns))


class KeyMap:
    """Lookups in the map of a folder, which may go once this is made.

    They search two arrays in `scratch` that are mapped from disk: memory holds the pages they touch.
    """

    def __init__(self, folder: Path, *, scratch: Path) -> None:
        self._size = sum(pq.read_metadata(file).num_rows for file in folder.glob("*.parquet"))
        self._old = self._mapped(OLD, folder, scratch)
        self._new = self._mapped(NEW, folder, scratch)

    def _mapped(self, name: str, folder: Path, scratch: Path) -> np.ndarray:
        if not self._size:
            return np.empty(0, _DIGITS)
        path, begin = scratch / f"{name}.npy", 0
        digits = np.lib.format.open_memmap(path, mode="w+", dtype=_DIGITS, shape=(self._size,))
        for batch in map_batches(folder, [name]):
            digits[begin : begin + len(batch)] = np.array(batch[name].to_pylist(), _DIGITS)
            begin += len(batch)
        digits.flush()
        return np.load(path, mmap_mode="r")

    def of(self, keys: Iterable[str]) -> dict[str, str]:
        """The new ones of those that are old ones of the map."""
        asked = np.array(sorted({key for key in keys if len(key) == NUM_DIGITS and key.isascii()}), _DIGITS)
        if not self._size or not asked.size:
            return {}
        place = np.minimum(np.searchsorted(self._old, asked), self._size - 1)
        hit = self._old[place] == asked
        pairs = zip(asked[hit].tolist(), self._new[place[hit]].tolist(), strict=True)
        return {before.decode(): after.decode() for before, after in pairs}
