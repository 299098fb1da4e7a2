"""Which purchase a return belongs to and how much money it takes back, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from spark_jobs.steps import returns
from spark_jobs.steps.returns import keep_without_matching, match_returns

SCHEMA = (
    "event_id long, user_key string, item_id string, event_type string, timestamp long, order_id string,"
    " quantity double, unit_price double, value double, text string"
)
TIES = ["order_id", "item_id"]


def row(
    event_id: int, kind: str, timestamp: int, quantity: float, *, price: float = 1.0, user: str = "u"
) -> tuple[Any, ...]:
    return (
        event_id,
        user,
        "a",
        kind,
        timestamp,
        str(event_id),
        float(quantity),
        price,
        quantity * price,
        None,
    )


def matched(spark: Any, *rows: tuple[Any, ...]) -> dict[int, Any]:
    frame = match_returns(spark.createDataFrame(list(rows), SCHEMA), TIES)
    found = {entry["event_id"]: entry for entry in frame.collect()}
    assert len(found) == len(rows) == frame.count()
    return found


def test_the_latest_purchase_that_was_large_enough_is_chosen(spark: Any) -> None:
    found = matched(
        spark,
        row(1, "purchase", 10, 5),
        row(2, "purchase", 20, 2),  # later but smaller
        row(3, "return", 30, 4),
        row(4, "purchase", 40, 9),  # after the return
    )
    assert found[3]["value"] == -4.0
    assert found[3]["anchor_timestamp"] == 10
    assert all(found[i]["returned_at"] == 0 for i in (1, 2, 4))


def test_without_a_large_one_the_latest_is_chosen_and_the_money_capped(spark: Any) -> None:
    found = matched(spark, row(1, "purchase", 10, 1), row(2, "purchase", 20, 2), row(3, "return", 30, 9))
    assert (found[3]["value"], found[3]["anchor_timestamp"]) == (-2.0, 20)
    assert found[2]["returned_at"] == 30


def test_several_returns_never_exceed_what_was_paid(spark: Any) -> None:
    found = matched(
        spark,
        row(1, "purchase", 10, 10),
        row(2, "return", 20, 6),
        row(3, "return", 30, 6),
        row(4, "return", 40, 1),
    )
    assert [found[i]["value"] for i in (2, 3, 4)] == [-6.0, -4.0, 0.0]
    assert found[1]["returned_at"] == 30
    assert sum(entry["value"] for entry in found.values()) == 0.0


def test_a_return_in_the_second_of_its_purchase_counts(spark: Any) -> None:
    found = matched(spark, row(1, "purchase", 10, 1), row(2, "return", 10, 1))
    assert found[2]["reason"] is None
    assert found[1]["returned_at"] == 10


def test_nothing_to_return_goes_to_the_quarantine(spark: Any) -> None:
    found = matched(
        spark,
        row(1, "return", 5, 1),
        row(2, "purchase", 10, 1),
        row(3, "return", 20, 1, user="other"),
    )
    assert {i: entry["reason"] for i, entry in found.items()} == {
        1: "return_without_purchase",
        2: None,
        3: "return_without_purchase",
    }
    assert found[2]["value"] == 1.0


def test_more_than_every_task_may_hold_is_told_user_by_user(
    spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        row(1, "purchase", 10, 3),
        row(2, "return", 20, 3),
        row(3, "purchase", 5, 4, user="v"),
        row(4, "return", 25, 1, user="v"),
        row(5, "return", 30, 1, user="w"),
    ]
    by_event = matched(spark, *rows)
    monkeypatch.setattr(returns, "SENT_TO_ALL", 3)
    assert matched(spark, *rows) == by_event
    assert [by_event[i]["value"] for i in (2, 4)] == [-3.0, -1.0]
    assert (by_event[1]["returned_at"], by_event[5]["reason"]) == (20, "return_without_purchase")


def test_without_money_rows_pass_with_no_value(spark: Any) -> None:
    frame = keep_without_matching(spark.createDataFrame([row(1, "view", 10, 1)], SCHEMA))
    entry = frame.first()
    assert (entry["value"], entry["returned_at"], entry["anchor_timestamp"], entry["reason"]) == (
        0.0,
        0,
        10,
        None,
    )
