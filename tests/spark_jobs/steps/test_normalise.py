"""Raw lines of several shapes become the same canonical columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.testing import assertDataFrameEqual

from recsys.schema import InputError
from spark_jobs.columns import Event
from spark_jobs.settings import EventColumns, SourceTable
from spark_jobs.steps.normalise import normalise
from tests.spark_jobs import shop

COLUMNS = {"user_id": "who", "item_id": "what", "timestamp": "moment", "event_type": "kind"}


def columns(**more: Any) -> EventColumns:
    return EventColumns(**(COLUMNS | more))


def test_text_of_a_csv_becomes_typed_and_the_unreadable_null(spark: Any) -> None:
    raw = spark.createDataFrame(
        [
            (" u1 ", "a", "2024-01-01T00:00:10Z", "purchase", "2", "1.5"),
            ("", "b", "1704067200", "return", "-3", "2.0"),
            ("u2", " ", "yesterday", "purchase", "many", "x"),
        ],
        "who string, what string, moment string, kind string, n string, price string",
    )
    dataset = shop.dataset(
        Path("log.csv"),
        events=SourceTable(path="log.csv", format="csv"),
        columns=columns(quantity="n", unit_price="price"),
    )
    found = normalise(raw, dataset).select(
        Event.USER_ID, Event.ITEM_ID, Event.TIMESTAMP, Event.QUANTITY, Event.UNIT_PRICE, Event.VALUE
    )
    expected = spark.createDataFrame(
        [
            ("u1", "a", 1704067210, 2.0, 1.5, 3.0),
            (None, "b", 1704067200, 3.0, 2.0, 6.0),
            ("u2", None, None, None, None, None),
        ],
        "user_id string, item_id string, timestamp long, quantity double, unit_price double, value double",
    )
    assertDataFrameEqual(found, expected, ignoreNullable=True)


@pytest.mark.parametrize(
    ("quantity", "amount", "unreadable"),
    [
        ("2", " 12.50 ", None),
        ("2", "12,50", "value"),
        (None, "", None),
        ("many", "x", "quantity,value"),
        ("many", "9", "quantity"),
    ],
)
def test_text_that_is_no_number_is_named(
    spark: Any, quantity: str | None, amount: str, unreadable: str | None
) -> None:
    raw = spark.createDataFrame(
        [("u1", "a", "5", "return", quantity, amount)],
        "who string, what string, moment string, kind string, n string, amount string",
    )
    dataset = shop.dataset(
        Path("log.csv"),
        events=SourceTable(path="log.csv", format="csv"),
        columns=columns(quantity="n", value="amount"),
    )
    row = normalise(raw, dataset).first()
    assert row["unreadable"] == unreadable
    if quantity == "many":
        assert row["quantity"] is None


def test_price_follows_from_value_and_expressions_are_allowed(spark: Any) -> None:
    raw = spark.createDataFrame(
        [("u1", "a", 5, "purchase", 4, 600)],
        "who string, what string, moment long, kind string, n int, `value in cents` int",
    )
    dataset = shop.dataset(
        Path("x"),
        columns=columns(quantity="n", value="`value in cents` / 100", profile={"who": "upper(who)"}),
    )
    row = normalise(raw, dataset).first()
    assert (row["value"], row["unit_price"], row["profile__who"]) == (6.0, 1.5, "U1")


@pytest.mark.parametrize(
    ("kind", "quantity", "price", "value", "expected"),
    [
        ("return", 2, None, -9.0, (2.0, 4.5, 9.0)),
        ("return", -2, None, 9.0, (2.0, 4.5, 9.0)),
        ("return", -2, None, -9.0, (2.0, 4.5, 9.0)),
        ("return", 2, -4.5, None, (2.0, 4.5, 9.0)),
        ("return", None, None, -9.0, (1.0, 9.0, 9.0)),
        ("return", None, None, None, (None, None, None)),
        ("purchase", 2, None, -9.0, (2.0, -4.5, -9.0)),
        ("purchase", None, None, 9.0, (None, None, 9.0)),
    ],
)
def test_a_return_may_have_either_sign_and_no_quantity(
    spark: Any, kind: str, quantity: int | None, price: float | None, value: float | None, expected: Any
) -> None:
    raw = spark.createDataFrame(
        [("u1", "a", 5, kind, quantity, price, value)],
        "who string, what string, moment long, kind string, n int, price double, amount double",
    )
    dataset = shop.dataset(Path("x"), columns=columns(quantity="n", unit_price="price", value="amount"))
    row = normalise(raw, dataset).first()
    assert (row["quantity"], row["unit_price"], row["value"]) == expected


def test_a_column_whose_name_is_no_expression_is_found(spark: Any) -> None:
    raw = spark.createDataFrame(
        [("u1", "a", 5, "view")], "`Customer ID` string, what string, moment long, kind string"
    )
    assert (
        normalise(raw, shop.dataset(Path("x"), columns=columns(user_id="Customer ID"))).first()["user_id"]
        == "u1"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user_id": "customer"}, "columns.user_id: raw.parquet has no column 'customer'; it has who, what"),
        ({"quantity": "kind"}, "columns.quantity: 'kind' in raw.parquet is string; it must be a number"),
        (
            {"timestamp": "price"},
            "columns.timestamp: 'price' in raw.parquet is double; it must be a timestamp",
        ),
        ({"timestamp": "kind"}, "columns.timestamp: 'kind' in raw.parquet is string"),
        ({"item_id": "what +"}, "columns.item_id: 'what [+]' is neither a column"),
        ({"item_id": "array(what)"}, "columns.item_id: .* is array<string>"),
    ],
)
def test_wrong_columns_are_named(spark: Any, change: dict[str, str], message: str) -> None:
    raw = spark.createDataFrame(
        [("u1", "a", 5, "view", 1.0)], "who string, what string, moment long, kind string, price double"
    )
    with pytest.raises(InputError, match=message):
        normalise(raw, shop.dataset(Path("raw.parquet"), columns=columns(**change)))
