"""Outcomes become events once each."""

from __future__ import annotations

from typing import Any

import pytest

from recsys.schema import InputError
from spark_jobs.feedback import outcomes_as_events

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


def test_a_log_without_a_column_is_refused(spark: Any) -> None:
    frame = spark.createDataFrame([("o1",)], "outcome_id string")
    with pytest.raises(InputError, match="no column 'user_key'"):
        outcomes_as_events(frame, like=LIKE)
