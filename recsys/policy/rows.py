"""Read a file of rows against a schema and check its values; every failure is one line with a remedy."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from recsys.schema import SECONDS_PER_DAY, Column, InputError

# Seconds since 1970 reach this in the year 5138; milliseconds passed it in 1973.
_FIRST_IMPLAUSIBLE_TIMESTAMP = 100_000_000_000


@dataclass(frozen=True)
class Check:
    """`accepts` maps a column to bools, null where it is null; what is false is reported with `complaint`."""

    column: str
    accepts: Callable[[pa.ChunkedArray], pa.ChunkedArray]
    complaint: str


def _not_in_the_future(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.less(column, int(time.time()) + SECONDS_PER_DAY)


TIMESTAMP_CHECKS = (
    Check(
        Column.TIMESTAMP,
        lambda column: pc.less(column, _FIRST_IMPLAUSIBLE_TIMESTAMP),
        "is too large for Unix seconds, probably milliseconds; divide by 1000",
    ),
    Check(Column.TIMESTAMP, lambda column: pc.greater(column, 0), "must be Unix seconds above 0"),
    Check(Column.TIMESTAMP, _not_in_the_future, "lies in the future; correct the clock that wrote it"),
)


def read_rows(path: Path, schema: pa.Schema) -> pa.Table:
    """The columns of `schema`, in its order and types, from a Parquet, CSV or JSON-lines file.

    Columns beyond the schema are dropped unread where the format allows. Raises InputError for a file that is
    missing, of another kind, corrupt or empty, and for a column that is missing or of another type.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; correct the path")
    readers = {".parquet": _parquet, ".csv": _csv, ".jsonl": _json, ".ndjson": _json, ".json": _json}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path} ends in {path.suffix!r}; hand in one of {', '.join(readers)}")
    try:
        table = readers[path.suffix.lower()](path, schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowKeyError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0].rstrip(". ")
        raise InputError(f"{path} cannot be read ({reason}); mend or write the file again") from None
    if table.num_rows == 0:
        raise InputError(f"{path} has no rows; hand in a file that holds some")
    return _cast(table, schema, path)


def check_rows(table: pa.Table, *, source: str, required: Iterable[str], checks: Iterable[Check]) -> None:
    """Raise InputError for the first null or empty text in a required column, then the first failed check.

    Row numbers count from 1 and leave a CSV header out. A null in a column that is not required passes.
    """
    for name in required:
        column = table[name]
        bad = pc.is_null(column)
        if pa.types.is_string(column.type):
            bad = pc.or_(bad, pc.equal(pc.fill_null(column, ""), ""))
        row = _first(bad)
        if row is not None:
            raise InputError(f"{source}: column {name!r} is empty in row {row + 1}; every row needs one")
    for check in checks:
        row = _first(pc.invert(pc.fill_null(check.accepts(table[check.column]), True)))
        if row is not None:
            value = table[check.column][row].as_py()
            raise InputError(f"{source}: {check.column} {value!r} in row {row + 1} {check.complaint}")


def _first(is_bad: pa.ChunkedArray) -> int | None:
    row = pc.index(is_bad, True).as_py()
    return None if row < 0 else row


def _require(names: Iterable[str], schema: pa.Schema, path: Path) -> None:
    present = set(names)
    missing = [name for name in schema.names if name not in present]
    if missing:
        raise InputError(
            f"{path} has no column {', '.join(map(repr, missing))}; it needs {', '.join(schema.names)}"
        )


def _parquet(path: Path, schema: pa.Schema) -> pa.Table:
    with pq.ParquetFile(path) as file:
        _require(file.schema_arrow.names, schema, path)
        return file.read(columns=schema.names)


def _csv(path: Path, schema: pa.Schema) -> pa.Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        _require(next(csv.reader(file), []), schema, path)
    return pyarrow.csv.read_csv(
        path,
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=schema,
            include_columns=schema.names,
            null_values=[""],  # "NA" and "null" can be ids
            strings_can_be_null=True,
        ),
    )


def _json(path: Path, schema: pa.Schema) -> pa.Table:
    """A key that no row has reads as a column of nulls, which is how JSON leaves an optional value out."""
    if path.stat().st_size == 0:
        return schema.empty_table()
    options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    return pyarrow.json.read_json(path, parse_options=options)


def _cast(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    """`table` in the schema's types, by casts that keep the kind of value: no text from numbers or times."""
    columns = []
    for field in schema:
        column = table[field.name]
        found = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not _is_same_kind(found, field.type):
            raise InputError(
                f"{path}: column {field.name!r} is {found}, not {field.type}; write it as {field.type}"
            )
        try:
            columns.append(column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{path}: column {field.name!r} does not fit {field.type} ({reason}); correct it"
            ) from None
    return pa.table(columns, schema=schema)


def _is_same_kind(found: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_null(found) or found == wanted:
        return True
    if pa.types.is_string(wanted):
        return pa.types.is_large_string(found) or pa.types.is_string_view(found)
    if pa.types.is_integer(wanted):
        return pa.types.is_integer(found)
    if pa.types.is_floating(wanted):
        return pa.types.is_floating(found) or pa.types.is_integer(found) or pa.types.is_decimal(found)
    return False
