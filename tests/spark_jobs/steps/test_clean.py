"""Each reason for leaving a row out, on rows made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spark_jobs.settings import Cleaning
from spark_jobs.steps.clean import flag
from spark_jobs.steps.duplicates import deduplicate, named
from spark_jobs.steps.order import tie_columns
from tests.spark_jobs import shop

SCHEMA = (
    "user_key string, item_id string, event_type string, timestamp long, order_id string,"
    " quantity double, unit_price double, value double, text string, unreadable string"
)
NOW = 1_000
GOOD = ("u", "a", "purchase", 100, "1", 2.0, 3.0, 6.0, "t", None)


def changed(**values: Any) -> tuple[Any, ...]:
    names = [part.split()[0] for part in SCHEMA.split(",")]
    return tuple(values.get(name, old) for name, old in zip(names, GOOD, strict=True))


NOW = 1_700_000_000
CASES = [
    (GOOD, None),
    (changed(user_key=None, item_id=None), "missing_user"),
    (changed(item_id=None), "missing_item"),
    (changed(timestamp=None), "bad_timestamp"),
    (changed(timestamp=0), "bad_timestamp"),
    (changed(timestamp=1_700_000_000_000), "bad_timestamp"),
    (changed(timestamp=NOW + 86_400), None),
    (changed(timestamp=NOW + 86_401), "in_the_future"),
    (changed(event_type="gift"), "unknown_event_type"),
    (changed(event_type=None), "unknown_event_type"),
    (changed(item_id="POST"), "not_an_item"),
    (changed(quantity=None, unreadable="quantity"), "unreadable_number"),
    (changed(unit_price=None, unreadable="unit_price,value"), "unreadable_number"),
    (changed(quantity=None), "missing_quantity"),
    (changed(quantity=0.0), "zero_quantity"),
    (changed(quantity=-1.0), "negative_quantity"),
    (changed(unit_price=0.0), "non_positive_price"),
    (changed(unit_price=None), "non_positive_price"),
    (changed(unit_price=float("nan")), "non_positive_price"),
]


def reasons(spark: Any, rows: list[tuple[Any, ...]], **changes: Any) -> list[str | None]:
    frame = spark.createDataFrame(rows, SCHEMA).coalesce(1)
    return [row["reason"] for row in flag(frame, shop.dataset(Path("x"), **changes), now=NOW).collect()]


def test_each_reason(spark: Any) -> None:
    assert reasons(spark, [row for row, _ in CASES]) == [reason for _, reason in CASES]


def test_gifts_may_be_allowed(spark: Any) -> None:
    rows = [changed(unit_price=0.0), changed(unit_price=-1.0)]
    assert reasons(spark, rows, cleaning=Cleaning(allow_zero_price=True)) == [None, "non_positive_price"]


def test_views_need_no_price(spark: Any) -> None:
    rows = [changed(event_type="view", quantity=None, unit_price=None, unreadable="unit_price")]
    assert reasons(spark, rows, event_types=["view", "purchase"]) == [None]


def test_equal_lines_become_one_and_nearly_equal_ones_stay(spark: Any) -> None:
    rows = [GOOD, GOOD, changed(text="other"), changed(text=None), changed(text=None)]
    batches = [2, 1, 3, 3, 2]
    lines = spark.createDataFrame(
        [(*row, batch) for row, batch in zip(rows, batches, strict=True)], f"{SCHEMA}, batch int"
    )
    kept = named(deduplicate(lines, tie_columns([], lines.columns))).collect()
    assert sorted((row["text"] or "", row["batch"]) for row in kept) == [("", 2), ("other", 3), ("t", 1)]
    assert len({row["event_id"] for row in kept}) == 3


@pytest.mark.parametrize("timestamp", [0, NOW + 1])
def test_without_time_positions_start_at_zero_and_are_never_in_the_future(spark: Any, timestamp: int) -> None:
    from spark_jobs.settings import SplitSettings

    without = {"has_time": False, "split": SplitSettings(kind="leave_one_out")}
    assert reasons(spark, [changed(timestamp=timestamp)], **without) == [None]
