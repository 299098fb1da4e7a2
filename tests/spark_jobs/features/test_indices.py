"""Indices run in order of first sight and are never given out twice."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import functions as F

from spark_jobs import lookup
from spark_jobs.features.indices import (
    NUMBERED_BY,
    assign_indices,
    first_sight,
    number_in_order,
    with_item_index,
)
from spark_jobs.sights import seen

SCHEMA = "item_id string, first_seen long"


def in_order(frame: Any) -> Any:
    return frame.withColumn(NUMBERED_BY, F.col("first_seen"))


def numbers(frame: Any) -> dict[str, int]:
    return {row["item_id"]: row["item_index"] for row in frame.collect()}


def test_order_is_by_time_then_id_over_many_partitions(spark: Any) -> None:
    rows = [(f"i{(7 * n) % 50:02d}", (7 * n) % 50 // 5) for n in range(50)]
    frame = spark.createDataFrame(rows, SCHEMA).repartition(5)
    found = numbers(number_in_order(in_order(frame), "item_id", "item_index", 100))
    assert found == {f"i{n:02d}": 101 + n for n in range(50)}


def test_known_ids_keep_their_index_and_new_ones_follow(spark: Any) -> None:
    seen = spark.createDataFrame([("b", 5), ("new", 1), ("newer", 2)], SCHEMA)
    prior = spark.createDataFrame(
        [("a", 1, 3), ("b", 2, 4)], "item_id string, item_index int, first_seen long"
    )
    found = assign_indices(
        in_order(seen), id_column="item_id", index_column="item_index", prior=prior, highest=7
    )
    assert numbers(found) == {"a": 1, "b": 2, "new": 8, "newer": 9}
    first_seen = {row["item_id"]: row["first_seen"] for row in found.collect()}
    assert first_seen == {"a": 3, "b": 5, "new": 1, "newer": 2}


def test_nothing_new_gives_nothing_out(spark: Any) -> None:
    seen = spark.createDataFrame([("a", 1)], SCHEMA)
    prior = spark.createDataFrame([("a", 1, 1)], "item_id string, item_index int, first_seen long")
    found = assign_indices(
        in_order(seen), id_column="item_id", index_column="item_index", prior=prior, highest=1
    )
    assert numbers(found) == {"a": 1}


def test_ids_are_numbered_batch_by_batch(spark: Any) -> None:
    """Batch 2 tells late of days before the first one: its ids come after, by what was known then."""
    lines = spark.createDataFrame(
        [("b", 5, 1), ("a", 6, 1), ("late", 1, 2), ("b", 0, 2), ("c", 2, 2)],
        "item_id string, timestamp long, batch int",
    )
    found = first_sight(seen(lines, "item_id"), "item_id", lines)
    found = assign_indices(found, id_column="item_id", index_column="item_index", prior=None, highest=0)
    assert numbers(found) == {"b": 1, "a": 2, "late": 3, "c": 4}
    assert {row["item_id"]: row["first_seen"] for row in found.collect()}["b"] == 0


@pytest.mark.parametrize("sent_to_all", [0, 100])
def test_events_without_an_item_are_not_sent_to_one_task(
    spark: Any, sent_to_all: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the items has the id of a user: it is no item of that user's searches."""
    rows = [(f"u{n % 40}", "u7" if n % 4 == 0 else None, n) for n in range(400)]
    events = spark.createDataFrame(rows, "user_key string, item_id string, n int").repartition(3)
    items = spark.createDataFrame([("u7", 1, 0), ("other", 2, 0)], "item_id string, item_index int, n long")
    monkeypatch.setattr(lookup, "SENT_TO_ALL", sent_to_all)
    settings = {"spark.sql.autoBroadcastJoinThreshold": "-1", "spark.sql.shuffle.partitions": "8"}
    before = {name: spark.conf.get(name) for name in settings}
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        found = with_item_index(events, items).withColumn("part", F.spark_partition_id()).collect()
    finally:
        for name, value in before.items():
            spark.conf.set(name, value)
    assert {row["n"]: row["item_index"] for row in found} == {n: int(n % 4 == 0) for n in range(400)}
    assert len(found) == 400
    assert len({row["part"] for row in found if row["item_id"] is None}) > (2 if sent_to_all else 4)
