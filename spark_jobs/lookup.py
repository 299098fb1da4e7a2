"""What a table tells of a value that an event has or lacks: an item's index, a query's words."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import Event

SENT_TO_ALL = 1_000_000  # rows of a table, some 100 MB, that each task may hold
_VALUE = "looked_up"


def look_up(events: DataFrame, table: DataFrame, *, by: str) -> DataFrame:
    """Events with the columns of `table`, null where it has no row of their value of `by` or they have none.

    Every task gets the whole table, so that events stay where they lie, unless it is too large for that.
    Events without the value then go by their user, so that a shuffle does not send all of them to one task.
    """
    told = table.withColumnRenamed(by, _VALUE)
    if table.count() <= SENT_TO_ALL:
        told = F.broadcast(told)
    sent_by = F.coalesce(by, Event.USER_KEY)
    joined = events.join(told, on=F.col(by).isNotNull() & (sent_by == F.col(_VALUE)), how="left")
    return joined.drop(_VALUE)
