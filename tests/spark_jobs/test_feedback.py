"""Outcomes become events once each."""

from __future__ import annotations

from typing import Any

import pytest

from recsys.schema import Impression, InputError, Response
from spark_jobs.feedback import impressions_with_responses, outcomes_as_events, without_logged

LOG = (
    "outcome_id string, user_key string, item_id string, event_type string, timestamp long, value double,"
    " slate_id string"
)
LIKE = [
    "user_key",
    "item_id",
    "event_type",
    "timestamp",
    "order_id",
    "quantity",
    "unit_price",
    "value",
    "text",
]


def test_one_event_per_outcome(spark: Any) -> None:
    one = ("o1", "k", "a", "purchase", 5, 2.5, "s")
    frame = spark.createDataFrame([one, one, ("o2", "k", "a", "return", 6, -2.5, None)], LOG)
    found = sorted(tuple(row) for row in outcomes_as_events(frame, like=LIKE).collect())
    assert found == [
        ("k", "a", "purchase", 5, "outcome:o1", 1.0, 2.5, 2.5, None),
        ("k", "a", "return", 6, "outcome:o2", 1.0, 2.5, 2.5, None),
    ]


EVENTS = (
    "user_key string, item_id string, event_type string, timestamp long, order_id string, quantity double,"
    " unit_price double, value double, text string"
)


def event(order: str | None, value: float | None, **other: Any) -> tuple[Any, ...]:
    named = {"user": "k", "item": "a", "kind": "purchase", "timestamp": 5} | other
    return (*named.values(), order, 1.0, value, value, None)


@pytest.mark.parametrize(
    ("has_value", "left"), [(True, ["o3", "o4", "o5", "o6", "o7"]), (False, ["o4", "o5", "o6", "o7"])]
)
def test_outcomes_that_the_log_tells_too_are_dropped(spark: Any, has_value: bool, left: list[str]) -> None:
    log = [event("A1", 0.1 * 3), event("A2", 0.3), event(None, 0.0, kind="view")]
    told = [
        event("outcome:o1", 0.3),
        event("outcome:o2", None, kind="view"),
        event("outcome:o3", 0.31),
        event("outcome:o4", 0.3, user="other"),
        event("outcome:o5", 0.3, item="b"),
        event("outcome:o6", 0.3, kind="return"),
        event("outcome:o7", 0.3, timestamp=6),
    ]
    found = without_logged(spark.createDataFrame([*log, *told], EVENTS), has_value=has_value)
    orders = sorted(row["order_id"] or "" for row in found.collect())
    assert orders == ["", "A1", "A2", *[f"outcome:{name}" for name in left]]
    assert found.columns == [part.split()[0] for part in EVENTS.split(",")]


def test_a_log_without_a_column_is_refused(spark: Any) -> None:
    frame = spark.createDataFrame([("o1",)], "outcome_id string")
    with pytest.raises(InputError, match="no column 'user_key'"):
        outcomes_as_events(frame, like=LIKE)


SHOWN = (
    "policy_version string, slate_id string, user_key string, item_index int, item_id string, slot int,"
    " score float, temperature float, propensity double, is_deterministic boolean, candidates_hash string,"
    " timestamp long"
)


def impression(slate: str, slot: int, item: str, user: str = "k") -> tuple[Any, ...]:
    return ("p", slate, user, 1, item, slot, 0.5, 1.0, 0.25, False, "h", 10)


def test_impressions_learn_what_followed_them(spark: Any) -> None:
    shown = spark.createDataFrame(
        [impression("s", 1, "a"), impression("s", 2, "b"), impression("s", 2, "b")], SHOWN
    )
    outcomes = spark.createDataFrame(
        [
            ("o1", "k", "a", "view", 11, None, "s"),
            ("o2", "k", "a", "purchase", 12, 2.5, "s"),
            ("o2", "k", "a", "purchase", 12, 2.5, "s"),  # handed in twice
            ("o3", "k", "b", "purchase", 9, 7.0, "s"),  # before it was shown
            ("o4", "other", "b", "purchase", 12, 7.0, "s"),  # somebody else's slate
            ("o5", "k", "b", "purchase", 12, 7.0, None),  # followed no slate
        ],
        LOG,
    )
    found = impressions_with_responses(shown, outcomes, spark=spark).orderBy("slot").collect()
    told = [(row.slot, row.num_outcomes, row.outcome_value, row.first_outcome_at) for row in found]
    assert told == [(1, 2, 2.5, 11), (2, 0, 0.0, None)]
    assert all(row.propensity == 0.25 and row.user_key == "k" for row in found)


def test_without_logs_the_table_of_impressions_is_empty_and_has_its_columns(spark: Any) -> None:
    found = impressions_with_responses(None, None, spark=spark)
    assert found.columns == [*Impression.ALL, *Response.ALL]
    assert found.count() == 0


def test_impressions_without_a_column_are_refused(spark: Any) -> None:
    frame = spark.createDataFrame([("s",)], "slate_id string")
    with pytest.raises(InputError, match="no column 'policy_version'"):
        impressions_with_responses(frame, None, spark=spark)
