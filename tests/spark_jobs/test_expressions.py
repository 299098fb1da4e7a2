"""Ids read the same whatever type their column came as."""

from __future__ import annotations

import hashlib
import hmac
from decimal import Decimal
from typing import Any

import pytest

from recsys.pseudonym import Key
from spark_jobs.expressions import text_column
from spark_jobs.steps.pseudonymise import pseudonymise


def texts(spark: Any, kind: str, values: list[Any]) -> list[str | None]:
    frame = spark.createDataFrame([(value,) for value in values], f"who {kind}").coalesce(1)
    column = text_column(frame, "who", setting="columns.user_id", path="raw.parquet")
    return [row[0] for row in frame.select(column).collect()]


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("int", [12346, None], ["12346", None]),
        ("bigint", [12346, 2**53 + 1], ["12346", "9007199254740993"]),
        ("float", [12346.0, None], ["12346", None]),
        ("double", [12346.0, 1e15, -3.0, 0.5, None], ["12346", "1000000000000000", "-3", "0.5", None]),
        ("double", [float("nan"), float("inf")], [None, "Infinity"]),
        ("decimal(10,2)", [Decimal("12346.00"), Decimal("1.50")], ["12346", "1.50"]),
        ("decimal(20,0)", [Decimal(2**60 + 1)], [str(2**60 + 1)]),
        ("string", [" 12346 ", "00012", ""], ["12346", "00012", None]),
    ],
)
def test_whole_numbers_read_as_whole_numbers(
    spark: Any, kind: str, values: list[Any], expected: list[str | None]
) -> None:
    assert texts(spark, kind, values) == expected


@pytest.mark.parametrize("kind", ["int", "bigint", "double", "decimal(12,1)", "string"])
def test_one_user_has_one_pseudonym_whatever_the_type(spark: Any, kind: str) -> None:
    raw = spark.range(1).selectExpr(f"cast(12346 as {kind}) as who")
    column = text_column(raw, "who", setting="columns.user_id", path="raw.parquet").alias("user_id")
    found = pseudonymise(raw.select(column), Key(secret=b"k", version="1", is_demo=False)).first()
    assert found["user_key"] == hmac.new(b"k", b"12346", hashlib.sha256).hexdigest()
