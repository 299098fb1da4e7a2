"""Columns as a data set's YAML names them: a name or a Spark SQL expression, checked for its type."""

from __future__ import annotations

import re

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys.schema import InputError


def find_column(frame: DataFrame, text: str, *, setting: str, path: str) -> tuple[SparkColumn, T.DataType]:
    """The column or expression `text` over `frame` and its type; InputError names `setting` and `path`."""
    # Spark would take a bare word that is no column for a function where there is one, e.g. `user`.
    is_word = re.fullmatch(r"[A-Za-z_]\w*", text) is not None
    if is_word and text.lower() not in [name.lower() for name in frame.columns]:
        raise _no_column(frame, text, setting, path)
    column = F.col(f"`{text}`") if is_word or text in frame.columns else F.expr(text)
    try:
        return column, frame.select(column.alias("x")).schema["x"].dataType
    except ParseException:
        raise InputError(
            f"{setting}: {text!r} is neither a column of {path} nor Spark SQL; mend it"
        ) from None
    except AnalysisException as error:
        missing = (error.getMessageParameters() or {}).get("objectName")
        if missing:
            raise _no_column(frame, missing.replace("`", ""), setting, path) from None
        detail = str(error).split(";")[0].splitlines()[0]
        raise InputError(f"{setting}: {text!r} does not work on {path}: {detail}") from None


def _no_column(frame: DataFrame, name: str, setting: str, path: str) -> InputError:
    return InputError(f"{setting}: {path} has no column {name!r}; it has {', '.join(frame.columns)}")


def computed_once(column: SparkColumn) -> SparkColumn:
    """The same column, which Spark takes for one that no step may move or repeat.

    Else it writes a filter over computed columns as one over raw ones, with each column's SQL in it as often
    as the filter names it: a hundred evaluations a row where one would do.
    """
    return F.when(F.spark_partition_id() >= 0, column)


def text_column(frame: DataFrame, text: str, *, setting: str, path: str) -> SparkColumn:
    """As trimmed text; blank becomes null."""
    column, kind = find_column(frame, text, setting=setting, path=path)
    if isinstance(kind, T.ArrayType | T.MapType | T.StructType | T.BinaryType):
        raise InputError(
            f"{setting}: {text!r} in {path} is {kind.simpleString()}; it must be text or a number"
        )
    trimmed = F.trim(column.cast("string"))
    if isinstance(kind, T.FractionalType):
        trimmed = _number_text(column, kind)
    return F.when(trimmed != "", trimmed)


def _number_text(column: SparkColumn, kind: T.DataType) -> SparkColumn:
    """Text of a fractional number: whole ones as whole numbers ("12346", never "12346.0"), NaN as null.

    A column of ids with gaps often arrives as float64; its ids must read as they do where they are integers.
    """
    whole = column.try_cast("long")
    text = F.when(whole == column, whole.cast("string")).otherwise(column.cast("string"))
    return text if isinstance(kind, T.DecimalType) else F.when(~F.isnan(column), text)


def is_no_number(frame: DataFrame, text: str, *, setting: str, path: str) -> SparkColumn:
    """True where text stands that `number_column` cannot read; blank is no fault."""
    column, kind = find_column(frame, text, setting=setting, path=path)
    if not isinstance(kind, T.StringType):
        return F.lit(False)
    trimmed = F.trim(column)
    return F.coalesce((trimmed != "") & trimmed.try_cast("double").isNull(), F.lit(False))


def number_column(frame: DataFrame, text: str, *, setting: str, path: str, loose: bool) -> SparkColumn:
    """As float64. Text counts only where `loose` (CSV, JSON); what cannot be read becomes null."""
    column, kind = find_column(frame, text, setting=setting, path=path)
    if isinstance(kind, T.NumericType):
        return column.cast("double")
    if loose and isinstance(kind, T.StringType | T.NullType):
        return F.trim(column).try_cast("double")
    raise InputError(f"{setting}: {text!r} in {path} is {kind.simpleString()}; it must be a number")


def seconds_column(frame: DataFrame, text: str, *, setting: str, path: str, loose: bool) -> SparkColumn:
    """As int64 Unix seconds, UTC. Whole numbers are taken as they are; unreadable text becomes null."""
    column, kind = find_column(frame, text, setting=setting, path=path)
    if isinstance(kind, T.IntegralType):
        return column.cast("long")
    if isinstance(kind, T.TimestampType | T.TimestampNTZType | T.DateType):
        return F.unix_seconds(column.cast("timestamp"))
    if loose and isinstance(kind, T.StringType):
        whole = F.trim(column).try_cast("long")
        return F.coalesce(whole, F.unix_seconds(F.trim(column).try_cast("timestamp")))
    raise InputError(
        f"{setting}: {text!r} in {path} is {kind.simpleString()}; it must be a"
        " timestamp, a date or whole seconds"
    )
