"""The same line handed in more than once: all canonical columns equal, whatever its batch."""

from __future__ import annotations

from functools import reduce
from operator import and_

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import Event


def deduplicate(events: DataFrame) -> DataFrame:
    """One row of each group of equal rows, of the first batch that had it."""
    lines = [name for name in events.columns if name not in (Event.REASON, Event.BATCH)]
    return events.groupBy(*lines).agg(F.min(Event.BATCH).alias(Event.BATCH))


def without_known(events: DataFrame, known: DataFrame) -> DataFrame:
    """Rows of `events` that are not among those of `known`; null is equal to null."""
    names = [name for name in events.columns if name != Event.BATCH]
    again = known.select(*[F.col(name).alias(f"known__{name}") for name in names])
    same = reduce(and_, [F.col(name).eqNullSafe(F.col(f"known__{name}")) for name in names])
    return events.join(again, on=same, how="left_anti")


def named(events: DataFrame) -> DataFrame:
    """With an `event_id` that names a row within this run."""
    return events.withColumn(Event.EVENT_ID, F.monotonically_increasing_id())
