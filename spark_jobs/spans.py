"""Which rows of a table came in between two looks at it, by a column that only grows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column as SparkColumn
from pyspark.sql import functions as F
from pyspark.sql import types as T

Mark = int | str  # a value of that column: a whole number, or a time or date as Spark writes it
HIGHEST = 2**63  # beyond it Spark has no whole numbers to compare with


@dataclass(frozen=True, kw_only=True)
class Span:
    """Rows with a value above `above`, or from the first on, and up to `upto`."""

    above: Mark | None
    upto: Mark

    def holds(self, column: SparkColumn) -> SparkColumn:
        """Written so that a database can answer it and files can be passed over."""
        is_in = column <= F.lit(self.upto)
        return is_in if self.above is None else (column > F.lit(self.above)) & is_in


def is_before(mark: Mark, other: Mark) -> bool:
    """Also where they are of two kinds: then the column has been made anew."""
    if isinstance(mark, int) and isinstance(other, int):
        return mark < other
    return type(mark) is not type(other) or str(mark) < str(other)


def whole(spans: Mapping[int, Span]) -> Span:
    """All of them, which follow one another."""
    first, last = min(spans), max(spans)
    return Span(above=spans[first].above, upto=spans[last].upto)


def batch_of(column: SparkColumn, spans: Mapping[int, Span]) -> SparkColumn:
    """The number of the span that a row of `whole(spans)` is in."""
    first, *others = sorted(spans, reverse=True)

    def earlier(later: SparkColumn, number: int) -> SparkColumn:
        return F.when(column <= F.lit(spans[number].upto), number).otherwise(later)

    return reduce(earlier, others, F.lit(first))


def is_number(kind: T.DataType) -> bool:
    return isinstance(kind, T.IntegralType) or (isinstance(kind, T.DecimalType) and kind.scale == 0)


def can_be_mark(kind: T.DataType) -> bool:
    """Text cannot: "100" lies before "99", and a database orders letters its own way."""
    return is_number(kind) or isinstance(kind, T.TimestampType | T.TimestampNTZType | T.DateType)
