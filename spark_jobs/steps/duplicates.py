"""The same line handed in more than once: all canonical columns equal, whatever its batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from spark_jobs.columns import Event
from spark_jobs.steps.order import laid_out, stable_key

_IS_AGAIN = "is_again"


def deduplicate(events: DataFrame, ties: Sequence[str]) -> DataFrame:
    """One row of each group of equal rows, of the first batch that had it; laid out by user, in order.

    `ties`: from `tie_columns`, so that equal rows follow one another.
    """
    by_user = Window.partitionBy(Event.USER_KEY).orderBy(*stable_key(ties), Event.BATCH)
    # Column by column: of a struct of all of them Spark would sort a second copy of each row.
    is_same = [F.lag(name).over(by_user).eqNullSafe(F.col(name)) for name in (Event.TIMESTAMP, *ties)]
    is_again = reduce(and_, is_same)
    return laid_out(events).withColumn(_IS_AGAIN, is_again).where(~F.col(_IS_AGAIN)).drop(_IS_AGAIN)


def named(events: DataFrame) -> DataFrame:
    """With an `event_id` that names a row within this run, ascending where the rows lie in order."""
    return events.withColumn(Event.EVENT_ID, F.monotonically_increasing_id())
