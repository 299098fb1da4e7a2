"""Append rows to a folder of Parquet files so that the same row is kept once.

A file is named by the SHA-256 of its bytes and moved into place when complete, so a reader sees whole files
only. Its Parquet metadata names the version of the pseudonymisation key: one log never mixes two.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.schema import FeedbackTable, InputError


@dataclass(frozen=True)
class Appended:
    """What an append did; `path` is None where every row was there already."""

    num_new: int
    num_known: int
    path: Path | None


def append_rows(
    *, table: pa.Table, folder: Path, key_columns: tuple[str, ...], key_version: str, source: str
) -> Appended:
    """Write those rows of `table` whose key the log does not hold yet, as one new file.

    Raises InputError, and writes nothing, where a key comes twice with different content, in the rows handed
    in or against the log, and where the log was written under another pseudonymisation key.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        known = read_log(folder, table.schema, key_version=key_version)
        new = _new_rows(table, known, key_columns, source)
        path = _write(new, folder, key_version) if new.num_rows else None
    return Appended(num_new=new.num_rows, num_known=table.num_rows - new.num_rows, path=path)


def read_log(folder: Path, schema: pa.Schema, *, key_version: str) -> pa.Table:
    """All rows of a log, in the order of its file names; no rows where the folder does not exist."""
    parts = [schema.empty_table()]
    for path in sorted(folder.glob("*.parquet")):
        try:
            part = pq.read_table(path, partitioning=None)
            written_under = (part.schema.metadata or {}).get(FeedbackTable.KEY_VERSION, b"").decode()
            parts.append(part.select(schema.names).cast(schema))
        except (pa.ArrowInvalid, pa.ArrowKeyError, KeyError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{path} cannot be read ({reason}); restore it from a backup") from None
        if written_under != key_version:
            raise InputError(
                f"{path} holds pseudonyms under key version {written_under!r}, the current key is "
                f"{key_version!r}; set RECSYS_HMAC_KEY to the key this log was begun with"
            )
    return pa.concat_tables(parts)


def _new_rows(table: pa.Table, known: pa.Table, key_columns: tuple[str, ...], source: str) -> pa.Table:
    """The distinct rows of `table` whose key `known` does not hold, in the order of their keys."""
    keys = list(key_columns)
    every_row = _distinct(pa.concat_tables([known, table]))
    per_key = every_row.group_by(keys, use_threads=False).aggregate([([], "count_all")])
    clashes = per_key.filter(pc.greater(per_key["count_all"], 1))
    if clashes.num_rows:
        name = ", ".join(f"{key} {clashes[key][0].as_py()!r}" for key in keys)
        raise InputError(
            f"{source}: {name} comes twice, or is in the log already, with other content; "
            "give the new row an id of its own"
        )
    rows = _distinct(table).join(known.select(keys), keys, join_type="left anti", use_threads=False)
    return rows.select(table.schema.names).sort_by([(key, "ascending") for key in keys])


def _distinct(table: pa.Table) -> pa.Table:
    return table.group_by(table.schema.names, use_threads=False).aggregate([]).select(table.schema.names)


def _write(table: pa.Table, folder: Path, key_version: str) -> Path:
    """A file of the rows, complete or not there at all."""
    table = table.replace_schema_metadata({FeedbackTable.KEY_VERSION: key_version.encode()})
    unfinished = folder / f".unfinished-{os.getpid()}"
    try:
        pq.write_table(table, unfinished, compression="zstd")
        with unfinished.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        path = folder / f"{digest[:32]}.parquet"
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time; the lock goes with the process that holds it."""
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
