"""One stable order of events: time, then a recorded key; ties break the same way on every run."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.schema import EventType
from spark_jobs.columns import Event


def tie_columns(configured: Sequence[str], available: Sequence[str]) -> list[str]:
    """The configured tie key, then every other canonical column: who ties on all is a duplicate."""
    rest = [name for name in (*Event.BARE, *sorted(available)) if name in available]
    identity = {Event.USER_KEY, Event.TIMESTAMP, Event.REASON, Event.EVENT_ID, Event.BATCH}
    return [name for name in dict.fromkeys((*configured, *rest)) if name not in identity]


def laid_out(events: DataFrame) -> DataFrame:
    """Rows with each user's in one partition, which the steps by user then need no shuffle for."""
    partitions = events.sparkSession.conf.get("spark.sql.shuffle.partitions")
    return events.repartition(int(str(partitions)), Event.USER_KEY)  # without a number Spark would merge some


def stable_key(ties: Sequence[str]) -> list[SparkColumn]:
    """Sort key: time, purchases before returns within one second, then the tie key."""
    is_return = (F.col(Event.EVENT_TYPE) == EventType.RETURN).cast("int")
    return [F.col(Event.TIMESTAMP), is_return.alias("is_return"), *[F.col(name) for name in ties]]
