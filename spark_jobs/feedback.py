"""Outcomes that the platform handed back: they join the log once, already under pseudonyms."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys.schema import InputError, Outcome
from spark_jobs.columns import Event

ONE_PIECE = 1.0
_ORDER_PREFIX = "outcome:"


def outcomes_as_events(outcomes: DataFrame, *, like: Sequence[str]) -> DataFrame:
    """Outcome log rows -> canonical events with the columns `like`, one per `outcome_id`.

    Rows of one `outcome_id` that differ (which `recsys feedback` never writes) leave the smallest.
    InputError where a column of the log is missing.
    """
    missing = [name for name in Outcome.LOG if name not in outcomes.columns]
    if missing:
        raise InputError(f"the feedback log has no column {missing[0]!r}; write it with `recsys feedback`")
    row = F.struct(
        Outcome.TIMESTAMP,
        Outcome.USER_KEY,
        Outcome.ITEM_ID,
        Outcome.EVENT_TYPE,
        F.col(Outcome.VALUE).alias("value"),
    )
    unique = outcomes.groupBy(Outcome.OUTCOME_ID).agg(F.min(row).alias("row"))
    money = F.abs(F.col("row.value"))
    columns = {
        Event.USER_KEY: F.col(f"row.{Outcome.USER_KEY}"),
        Event.ITEM_ID: F.col(f"row.{Outcome.ITEM_ID}"),
        Event.EVENT_TYPE: F.col(f"row.{Outcome.EVENT_TYPE}"),
        Event.TIMESTAMP: F.col(f"row.{Outcome.TIMESTAMP}").cast("long"),
        Event.ORDER_ID: F.concat(F.lit(_ORDER_PREFIX), F.col(Outcome.OUTCOME_ID)),
        Event.QUANTITY: F.lit(ONE_PIECE),
        Event.UNIT_PRICE: money,
        Event.VALUE: money,
    }
    empty = F.lit(None).cast("string")
    return unique.select(*[columns.get(name, empty).alias(name) for name in like])


def is_outcome() -> Column:
    """True for an event that came from the feedback log."""
    return F.coalesce(F.col(Event.ORDER_ID).startswith(_ORDER_PREFIX), F.lit(False))
