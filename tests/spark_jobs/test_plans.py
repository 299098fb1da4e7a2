"""What Spark makes of the steps: nothing pairs all with all, no task gets all rows, none is in Python."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Window
from pyspark.sql import functions as F

from spark_jobs import job
from spark_jobs.features.histories import histories
from spark_jobs.features.indices import Indexed
from spark_jobs.features.users import activity, users_at_cuts
from spark_jobs.session import keep
from spark_jobs.settings import Cleaning
from spark_jobs.steps.duplicates import deduplicate, named
from spark_jobs.steps.order import tie_columns
from spark_jobs.steps.returns import match_returns
from tests.spark_jobs import shop

NODE = re.compile(r"^([\s:|+-]*)(?:\* )?(\w[\w ]*?) \((\d+)\)$")
SUMMED = {"HashAggregate", "ObjectHashAggregate", "SortAggregate", "LocalLimit", "TakeOrderedAndProject"}
LINES = (
    "user_key string, item_id string, event_type string, timestamp long, order_id string, quantity double,"
    " unit_price double, value double, text string, batch int"
)


def executions(spark: Any) -> Any:
    """The latest queries, oldest first, as Spark's own pages show them; of older ones it forgets the plan."""
    spark.sparkContext._jsc.sc().listenerBus().waitUntilEmpty()
    return spark._jsparkSession.sharedState().statusStore().executionsList()


def last_of(spark: Any) -> int:
    found = executions(spark)
    return max((found.apply(n).executionId() for n in range(found.size())), default=-1)


def plans(spark: Any, after: int) -> list[str]:
    """Of the queries after the one of this number, none of which may be forgotten yet."""
    found = executions(spark)
    latest = [found.apply(n) for n in range(found.size())]
    numbers = [each.executionId() for each in latest]
    assert min(numbers) <= after + 1, "more queries than Spark remembers"
    return [each.physicalPlanDescription() for each in latest if each.executionId() > after]


def nodes(plan: str) -> list[tuple[int, str, str]]:
    """(depth, name, number) of each node, parents before children."""
    matches = [NODE.match(line) for line in plan.splitlines()]
    return [(len(match[1]), match[2], match[3]) for match in matches if match]


def gathered(plan: str) -> set[str]:
    """Names of the nodes whose rows all go to one task."""
    tree = nodes(plan)
    asked = [part for part in plan.split("\n\n") if "SinglePartition, ENSURE_REQUIREMENTS" in part]
    told = [re.match(r"\((\d+)\) Exchange\n", part) for part in asked]  # and no file of few rows
    single = {match[1] for match in told if match}
    return {
        below[1]
        for above, below in pairwise(tree)
        if above[1] == "Exchange" and above[2] in single and below[0] > above[0]
    }


def test_no_plan_of_a_run_is_one_that_cannot_grow(spark: Any, tmp_path: Path) -> None:
    before = last_of(spark)
    path = shop.write(shop.regular_lines(), tmp_path / "raw.parquet")
    job.build(shop.settings(path, tmp_path, cleaning=Cleaning()), spark)  # a pattern would hide repeated SQL
    of_run = plans(spark, before)
    assert len(of_run) > 20
    for plan in of_run:
        assert "CartesianProduct" not in plan
        assert not re.search(r"EvalPython|PythonUDF|InPandas|InArrow", plan)
        assert gathered(plan) <= SUMMED, plan
        conditions = re.findall(r"^Condition : (.*)$", plan, flags=re.M)
        assert max((text.count("trim(") for text in conditions), default=0) < 5, "SQL of columns, repeated"


def test_a_window_over_all_rows_would_be_seen(spark: Any) -> None:
    before = last_of(spark)
    numbered = F.row_number().over(Window.orderBy("id"))
    spark.range(100).repartition(3).withColumn("n", numbered).agg(F.sum("n")).collect()
    assert any(not gathered(plan) <= SUMMED for plan in plans(spark, before))


@pytest.fixture(scope="module")
def unique(spark: Any) -> Any:
    rows = [
        (f"u{n % 7}", f"i{n % 5}", kind, n, str(n), 1.0, 2.0, 2.0, None, 1)
        for n, kind in enumerate(["purchase", "view", "return"] * 40)
    ]
    lines = spark.createDataFrame([*rows, *rows[:9]], LINES)
    once = deduplicate(lines, tie_columns([], lines.columns))
    assert moves(once) == 1, "laid out by user"
    return keep(named(once))


def test_events_stay_where_they_were_laid_out(unique: Any) -> None:
    assert unique.count() == 120
    matched = match_returns(unique, tie_columns([], unique.columns))
    assert moves(matched) == 0
    first_seen = F.min("timestamp").alias("first_seen")
    users, items = (
        keep(unique.groupBy(name).agg(first_seen, F.min("batch").alias(index)).repartition(3))
        for name, index in (("user_key", "user_index"), ("item_id", "item_index"))
    )
    indexed = Indexed(
        events=matched.withColumn("event_type_index", F.lit(1)),
        users=users,
        items=items,
        ties=[],
        last_timestamp=200,
    )
    by_day = activity(indexed.events, [50])
    assert moves(by_day) == 0
    at_cuts = users_at_cuts(by_day, [(50, "test")], horizons_days=[7], last_timestamp=200)
    assert moves(indexed.with_users(at_cuts)) == 1, "the map of users, which joins them"
    rows = histories(indexed.in_order(), users, window_events=8)
    assert moves(rows) == 1, "the map of users, which joins them"


def moves(frame: Any) -> int:
    """How often rows are sent round to compute the frame from what is kept."""
    found, kept_at = 0, None
    for line in frame._jdf.queryExecution().executedPlan().toString().splitlines():
        depth = len(line) - len(line.lstrip(" :+-*"))
        if kept_at is not None and depth > kept_at:
            continue  # how that came about
        kept_at = depth if line.lstrip(" :+-").startswith("InMemoryRelation") else None
        found += line.lstrip(" :+-").startswith("Exchange")
    return found
