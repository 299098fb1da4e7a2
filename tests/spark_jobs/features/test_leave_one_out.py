"""The last target event is tested on, the one before validated on, the rest trained on."""

from __future__ import annotations

from typing import Any

from pyspark.sql import functions as F

from spark_jobs.features import leave_one_out as steps

SCHEMA = "user_key string, item_index int, event_type string, timestamp long, position int"


def events(spark: Any) -> Any:
    rows = [(1, 10 + n, "rating", n, n + 1) for n in range(5)]
    rows += [(2, 10, "rating", 0, 1), (2, 11, "rating", 1, 2)]  # too few to hold anything out
    # views are history but never targets
    kinds = ["rating", "view", "rating", "rating", "view"]
    rows += [(3, 20 + n, kind, n, n + 1) for n, kind in enumerate(kinds)]
    return spark.createDataFrame([(f"k{user}", *row) for user, *row in rows], SCHEMA)


def indexed(rows: Any) -> Any:
    return rows.withColumn("user_index", F.substring("user_key", 2, 1).cast("int"))


def test_prefixes_end_before_the_held_out_event(spark: Any) -> None:
    prefixes = indexed(steps.prefixes(events(spark), ["rating"]))
    found = {
        (row["user_index"], row["split"]): row["prefix_length"] for row in steps.examples(prefixes).collect()
    }
    assert found == {
        (1, "train"): 3,
        (1, "validation"): 3,
        (1, "test"): 4,
        (2, "train"): 2,
        (3, "train"): 2,
        (3, "validation"): 2,
        (3, "test"): 3,
    }


def test_facts_and_users_see_the_training_prefix_only(spark: Any) -> None:
    log = events(spark)
    facts = steps.facts(log, steps.prefixes(log, ["rating"]), ["rating"])
    known = {
        (int(row["user_key"][1:]), row["item_index"]) for row in facts.events.where(facts.known[0]).collect()
    }
    assert known == {(1, 10), (1, 11), (1, 12), (2, 10), (2, 11), (3, 20), (3, 21)}
    assert facts.events.where(facts.recent[0]).count() == 6
    users = {row["user_index"]: row for row in indexed(steps.users(facts)).collect()}
    assert (users[1]["known__num_events"], users[1]["known__spend"], users[1]["known_at"]) == (3, 0.0, 2)
    assert (users[3]["known__num_events"], users[3]["known__num_orders"]) == (2, 1)
