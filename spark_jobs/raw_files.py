"""Rows of certain people out of Parquet, CSV and JSON lines files, each rewritten whole or not at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.disk import whole_file
from recsys.schema import InputError
from spark_jobs.settings import SourceTable
from spark_jobs.sources import is_local, local_files

COMPRESSED = (".gz", ".bz2", ".zst", ".lz4", ".deflate", ".snappy")


def filter_parquet(file: Path, target: Path, keep: Callable[[pa.Table], pa.ChunkedArray]) -> int:
    """Copy a file with the rows that `keep` says; the number of others."""
    return rewrite_parquet(file, target, lambda part: part.filter(keep(part)))


def rewrite_parquet(
    file: Path,
    target: Path,
    change: Callable[[pa.Table], pa.Table],
    *,
    facts: Mapping[bytes, bytes] = MappingProxyType({}),
) -> int:
    """Copy a file row group by row group, each as `change` makes it; how many rows fewer there are.

    `facts`: on top of those that the file tells of itself.
    """
    source = pq.ParquetFile(file)
    schema = source.schema_arrow
    schema = schema.with_metadata({**(schema.metadata or {}), **facts}) if facts else schema
    dropped = 0
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for group in range(source.num_row_groups):
            part = source.read_row_group(group)
            changed = change(part)
            dropped += len(part) - len(changed)
            writer.write_table(changed)
    return dropped


def check_raw(source: SourceTable, column: str) -> None:
    """InputError where rows of a raw table cannot be picked by one plain column of local files."""
    problem = None
    if not is_local(source.path):
        problem = "it does not lie on this machine's disks"
    elif source.keys or source.computed:
        problem = "its rows are joined or computed"
    elif any(file.suffix in COMPRESSED for file in local_files(source.path)):
        problem = "it is compressed"
    elif any(name.lower() == "multiline" for name in source.options):
        problem = "its rows span lines"
    else:
        for file in local_files(source.path):
            if column not in _raw_columns(file, source):
                problem = f"{file.name} has no plain column {column!r}"
    if problem:
        raise InputError(
            f"erase_raw=true cannot rewrite {source.path}: {problem}; take the people out of it yourself and "
            "leave erase_raw: tombstones keep them out of every run"
        )


def _raw_columns(file: Path, source: SourceTable) -> list[str]:
    if source.format == "parquet":
        return list(pq.read_schema(file).names)
    with file.open(encoding="utf-8", newline="") as lines:
        if source.format == "json":
            first = next((line for line in lines if line.strip()), "{}")
            return list(json.loads(first))
        return next(_rows(lines, source.options), [])


def erase_raw(file: Path, source: SourceTable, column: str, people: frozenset[str]) -> int:
    if source.format == "parquet":
        gone = pa.array(sorted(people), pa.string())
        with whole_file(file) as target:
            return filter_parquet(
                file, target, lambda part: pc.invert(pc.is_in(_as_text(part[column]), value_set=gone))
            )
    if source.format == "csv":
        return filter_csv(file, column, lambda value: _plain(value) in people, options=source.options)
    return _filter_lines(file, lambda line: _plain(json.loads(line).get(column)) in people)


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids as the job reads them: trimmed, a whole number without its decimals."""
    if pa.types.is_floating(column.type):
        whole = pc.floor(column)
        column = pc.if_else(
            pc.equal(whole, column),
            whole.cast(pa.int64(), safe=False).cast(pa.string()),
            column.cast(pa.string()),
        )
    return pc.utf8_trim_whitespace(column.cast(pa.string()))


def _plain(value: Any) -> str:
    """The same for one value of a CSV or JSON file."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _rows(lines: Iterable[str], options: Mapping[str, Any]) -> Iterator[list[str]]:
    """Rows of CSV as Spark's options describe it."""
    given = {key.lower(): str(value) for key, value in options.items()}
    return csv.reader(
        lines,
        delimiter=given.get("sep", given.get("delimiter", ",")),
        quotechar=given.get("quote", '"'),
        escapechar=given.get("escape", "\\"),
    )


def filter_csv(
    file: Path,
    column: str,
    is_gone: Callable[[str], bool],
    *,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> int:
    """Lines of everybody else as they stand, byte by byte."""
    with file.open(encoding="utf-8", newline="") as lines:
        place = next(_rows(lines, options)).index(column)

    def picks(line: str) -> bool:
        row = next(_rows([line], options), [])
        return len(row) > place and is_gone(row[place])

    return _filter_lines(file, picks, header=1)


def _filter_lines(file: Path, is_gone: Callable[[str], bool], *, header: int = 0) -> int:
    dropped = 0
    with (
        whole_file(file) as target,
        file.open(encoding="utf-8", newline="") as lines,
        target.open("w", encoding="utf-8", newline="") as kept,
    ):
        for number, line in enumerate(lines):
            if number >= header and line.strip() and is_gone(line):
                dropped += 1
            else:
                kept.write(line)
    return dropped
