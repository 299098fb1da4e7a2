"""Reading the raw files of a data set. Every fault of a file is one sentence that names it."""

from __future__ import annotations

import glob
import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys.schema import InputError
from spark_jobs.expressions import find_column
from spark_jobs.faults import UNREADABLE, root_cause
from spark_jobs.jdbc import divided_within, explain_jdbc, load_jdbc, marks_table
from spark_jobs.session import pin
from spark_jobs.settings import Dataset, SourceTable
from spark_jobs.spans import HIGHEST, Mark, Span, batch_of, can_be_mark, is_number, whole

HASHED_BYTES_LIMIT = 20 * 2**30
HEADER_BYTES_LIMIT = 2**20
IN_BATCH = "__batch"  # of lines that were told by spans
CORRUPT_OPTION, CORRUPT = "columnNameOfCorruptRecord", "_corrupt_record"  # Spark's names


def read_table(spark: SparkSession, source: SourceTable, *, files: Sequence[Path] | None = None) -> DataFrame:
    """The table, or some of its files, as Spark reads it; InputError where it is missing or unreadable."""
    if is_local(source.path) and not local_files(source.path):
        raise InputError(
            f"{source.path} does not exist or is an empty folder; mend the path in the data set's YAML"
        )
    try:
        parts = _parts(spark, source, files)
    except (PySparkException, Py4JError, OSError, EOFError) as error:
        raise InputError(explain(error, source)) from None
    if not parts:
        raise InputError(f"{source.path} is an empty table; give one with rows")
    _check_readable(parts, source)
    _check_same_columns(parts)
    return reduce(DataFrame.unionByName, [_with_computed(frame, source) for frame in parts.values()])


def _parts(spark: SparkSession, source: SourceTable, files: Sequence[Path] | None) -> dict[str, DataFrame]:
    """The table by the name of a file that shows its columns: one part, or one for each header of CSV files.

    Spark takes one file's header for all and reads the others by position, so each header is read on its own.
    """
    if source.format == "jdbc":
        return {source.path: load_jdbc(spark, source)}
    options = {key.lower(): str(value) for key, value in source.options.items()}
    by_header = source.format == "csv" and options.get("header", "").lower() == "true"
    if by_header and not is_local(source.path):
        options.setdefault("enforceschema", "false")  # another order of columns is an error, not a swap

    def load(paths: str | list[str], **more: str) -> DataFrame:
        return spark.read.options(**(more | options)).format(source.format).load(paths)

    folder = source.path.removeprefix("file://")
    base = {"basepath": folder} if Path(folder).is_dir() else {}  # keeps the columns of day=... folders
    if files is None:
        whole = load(source.path)
    else:
        whole = load([_escaped(str(file.absolute())) for file in files], **base)
    groups: dict[bytes, list[str]] = {}
    if by_header and is_local(source.path):
        for file in sorted(unquote(urlsplit(uri).path) for uri in whole.inputFiles()):
            header = file.encode() if {"comment", "multiline"} & set(options) else _first_line(Path(file))
            groups.setdefault(header, []).append(file)
    if len(groups) < 2:
        return {source.path: whole} if whole.columns else {}
    frames = {files[0]: load([_escaped(file) for file in files], **base) for files in groups.values()}
    return {file: frame for file, frame in frames.items() if frame.columns}


def _first_line(file: Path) -> bytes:
    """The first line with text; b"" where there is none."""
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
        return next(
            (line.strip() for line in iter(lambda: lines.readline(HEADER_BYTES_LIMIT), b"") if line.strip()),
            b"",
        )


def _escaped(file: str) -> str:
    """The file's name, not taken for a pattern."""
    return re.sub(r"([\\*?\[\]{}])", r"\\\1", file)


def _check_same_columns(parts: dict[str, DataFrame]) -> None:
    """InputError where a file lacks a column that another one has, or has it with a type that is no match."""
    kinds = {
        file: {part.name.lower(): part.dataType for part in frame.schema} for file, frame in parts.items()
    }
    fullest = max(kinds, key=lambda file: len(kinds[file]))
    for file, kind in kinds.items():
        for with_it, without in ((fullest, file), (file, fullest)):
            missing = sorted(kinds[with_it].keys() - kinds[without].keys())
            if missing:
                raise InputError(
                    f"{without} has no column {missing[0]!r} and {with_it} has one; give all files of a table"
                    " the same columns, in any order"
                )
        for name, first in kinds[fullest].items():
            are_numbers = all(isinstance(one, T.NumericType) for one in (kind[name], first))
            if kind[name] != first and not are_numbers:
                raise InputError(
                    f"column {name!r} is {first.simpleString()} in {fullest} and"
                    f" {kind[name].simpleString()} in {file}; leave inferSchema out of the options"
                )


def _check_readable(parts: dict[str, DataFrame], source: SourceTable) -> None:
    """InputError where a file of JSON lines has no line that is an object: Spark finds faults only."""
    faults = next((str(v) for k, v in source.options.items() if k.lower() == CORRUPT_OPTION.lower()), CORRUPT)
    if source.format == "json" and any(frame.columns == [faults] for frame in parts.values()):
        raise InputError(
            f"{source.path} cannot be read as json: no line of it is an object; write one object a line, or"
            " set multiLine: true in its options where one object spans lines"
        )


def _with_computed(frame: DataFrame, source: SourceTable) -> DataFrame:
    added = {
        name: find_column(frame, text, setting=f"computed.{name}", path=source.path)[0]
        for name, text in source.computed.items()
    }
    return frame.withColumns(added) if added else frame


def explain(error: Exception, source: SourceTable) -> str:
    """One sentence for what Spark says about an unreadable file."""
    text = str(error)
    if source.format == "jdbc":
        return explain_jdbc(error, source)
    if "PATH_NOT_FOUND" in text:
        return f"{source.path} does not exist; mend the path in the data set's YAML"
    if "UNABLE_TO_INFER_SCHEMA" in text:
        return f"{source.path} is an empty table; give one with rows"
    scheme = urlsplit(source.path).scheme
    if "No FileSystem for scheme" in text or ("ClassNotFoundException" in text and "hadoop.fs" in text):
        return (
            f"{source.path}: Spark knows no file system for {scheme}://; name its package in"
            " +spark.conf={spark.jars.packages:...} or its jar in spark.jars"
        )
    if not is_local(source.path) and not any(sign in text for sign in UNREADABLE):
        return (
            f"{source.path} cannot be read ({root_cause(error)}); see that it is there and open to this job"
        )
    return (
        f"{source.path} cannot be read as {source.format}; it is corrupt or of another format: write it anew"
    )


def read_events(
    spark: SparkSession,
    dataset: Dataset,
    *,
    files: Sequence[Path] | None = None,
    spans: Mapping[int, Span] = MappingProxyType({}),
) -> DataFrame:
    """The raw lines, or those of some files, joined with the second file where the data set has one.

    `spans`: those of `appended_by` to be read, by batch; the lines then have a column IN_BATCH.
    """
    source = dataset.events
    if spans and source.format == "jdbc":
        source = divided_within(source, whole(spans))
    events = read_table(spark, source, files=files)
    if spans:
        mark = _mark_column(events, source)[0]
        events = events.where(whole(spans).holds(mark)).withColumn(IN_BATCH, batch_of(mark, spans))
    if dataset.join is None:
        return events
    other = read_table(spark, dataset.join)
    for side, path in ((events, dataset.events.path), (other, dataset.join.path)):
        missing = [name for name in dataset.join.keys if name not in side.columns]
        if missing:
            raise InputError(
                f"join.keys: {path} has no column {missing[0]!r}; it has {', '.join(side.columns)}"
            )
    twice = other.groupBy(*dataset.join.keys).count().where(F.col("count") > 1).count()
    if twice:
        raise InputError(
            f"join.keys: {dataset.join.path} has more than one row for {twice} of its keys;"
            " keep one row for each or name more keys"
        )
    return events.join(other, on=dataset.join.keys, how="left")


def newest_mark(spark: SparkSession, source: SourceTable) -> Mark | None:
    """The highest value of `appended_by`; None where the data set has no such column.

    InputError where a row lacks one, or where it is neither a whole number nor a time: rows would be lost.
    """
    if source.appended_by is None:
        return None
    table = read_table(spark, source)
    column, kind = _mark_column(table, source)
    if not can_be_mark(kind):
        raise InputError(
            f"events.appended_by: {source.appended_by!r} in {source.path} is {kind.simpleString()}; give a"
            " whole number or a time, as cast(line_id as bigint) or cast(day as date)"
        )
    if source.format == "jdbc":
        found = read_table(spark, marks_table(source)).toDF("mark", "lacking")
    else:
        found = table.agg(F.max(column).alias("mark"), F.count_if(column.isNull()).alias("lacking"))
    row = found.select(F.col("mark").cast("string"), "lacking").first()
    if row is None or (row["mark"] is None and not row["lacking"]):
        raise InputError(f"{source.path} is an empty table; give one with rows")
    if row["lacking"]:
        raise InputError(
            f"events.appended_by: {row['lacking']:.0f} rows of {source.path} have no {source.appended_by};"
            " name a column that every row has"
        )
    if is_number(kind) and int(row["mark"]) >= HIGHEST:
        raise InputError(
            f"events.appended_by: {source.appended_by} of {source.path} goes up to {row['mark']}, and the"
            f" highest number that can be told is {HIGHEST - 1}; name a smaller one, or a time"
        )
    return int(row["mark"]) if is_number(kind) else str(row["mark"])


def looked_at_once(told: DataFrame, source: SourceTable) -> DataFrame:
    """What a database's table tells: a second look at it costs its server, and could show other rows."""
    return pin(told) if source.format == "jdbc" else told


def _mark_column(table: DataFrame, source: SourceTable) -> tuple[SparkColumn, T.DataType]:
    return find_column(table, str(source.appended_by), setting="events.appended_by", path=source.path)


def fingerprints(
    dataset: Dataset,
    *,
    feedback: Iterable[SourceTable | None] = (),
    known: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Path, bytes and sha256 of every local file read, raw or handed back (null for remote or huge ones; a
    database's has its table). `known`: those at hand already, by path."""
    tables = [dataset.events, dataset.join, *feedback]
    tables += [table.source for table in (dataset.items, dataset.users, dataset.graph) if table is not None]
    found: list[dict[str, Any]] = []
    for table in tables:
        if table is None:
            continue
        if not is_local(table.path):
            named = {"table": table.options.get("dbtable")} if table.format == "jdbc" else {}
            found.append({"path": table.path, **named, "bytes": None, "sha256": None})
        for file in local_files(table.path) if is_local(table.path) else []:
            found.append(dict(known.get(str(file)) or fingerprint(file)))
    return found


def fingerprint(file: Path) -> dict[str, Any]:
    size = file.stat().st_size
    digest = _sha256(file) if size <= HASHED_BYTES_LIMIT else None
    return {"path": str(file), "bytes": size, "sha256": digest}


def is_local(path: str) -> bool:
    """Whether this machine's own file system holds it."""
    return not path.startswith("jdbc:") and ("://" not in path or path.startswith("file://"))


def local_files(path: str) -> list[Path]:
    """The files that `path` (a file, a folder or a glob) stands for, without hidden ones."""
    files: list[Path] = []
    for match in sorted(glob.glob(path.removeprefix("file://"))):
        inside = sorted(Path(match).rglob("*")) if Path(match).is_dir() else [Path(match)]
        files += [file for file in inside if file.is_file() and file.name[0] not in "._"]
    return files


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
