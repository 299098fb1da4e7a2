"""The same line handed in more than once: all canonical columns equal."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import Event


def deduplicate(events: DataFrame) -> DataFrame:
    """One row of each group of equal rows, with an `event_id` that names it within this run."""
    lines = [name for name in events.columns if name != Event.REASON]
    return events.select(*lines).distinct().withColumn(Event.EVENT_ID, F.monotonically_increasing_id())
