"""Each user's events once, in stable order, cut into rows of at most `window_events`."""

from __future__ import annotations

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.schema import Column
from spark_jobs.columns import Event

# list column: (column of an event, type)
LISTS = {
    Column.ITEM_INDEX: (Column.ITEM_INDEX, "int"),
    Column.EVENT_TYPE: (Event.TYPE_INDEX, "int"),
    Column.TIMESTAMP: (Event.TIMESTAMP, "long"),
    Column.VALUE: (Event.VALUE, "double"),
    Column.RETURNED_AT: (Event.RETURNED_AT, "long"),
}


def histories(events: DataFrame, users: DataFrame, *, window_events: int) -> DataFrame:
    """One row per (user, window), with aligned list columns. `events` have positions; `users`: key, index
    and first sight.
    """
    window_index = F.floor((F.col(Event.POSITION) - 1) / window_events).cast("int")
    lists = {name: F.col(column).cast(kind) for name, (column, kind) in LISTS.items()}
    lists |= _signals(events)
    entry = F.struct(Event.POSITION, *[column.alias(name) for name, column in lists.items()])
    rows = (
        events.withColumn(Column.WINDOW_INDEX, window_index)
        .groupBy(Column.USER_KEY, Column.WINDOW_INDEX)  # events lie together by the first
        .agg(F.sort_array(F.collect_list(entry)).alias("entries"))
    )
    known = users.select(Column.USER_KEY, Column.USER_INDEX, Column.FIRST_SEEN).hint("shuffle_hash")
    return rows.join(known, on=Column.USER_KEY, how="inner").select(
        Column.USER_INDEX,
        Column.USER_KEY,
        Column.FIRST_SEEN,
        Column.WINDOW_INDEX,
        F.size("entries").alias(Column.NUM_EVENTS),
        *[F.col(f"entries.{name}").alias(name) for name in lists],
    )


def _signals(events: DataFrame) -> dict[str, SparkColumn]:
    """What an event tells beside; only where the data set has it."""
    found: dict[str, SparkColumn] = {}
    if Event.DWELL_S in events.columns:
        found[Column.DWELL_S] = F.coalesce(Event.DWELL_S, F.lit(0.0)).cast("float")
    if Event.QUERY_WORDS in events.columns:
        found[Column.QUERY] = F.col(Event.QUERY_WORDS)
    return found
