"""Returns and the purchases they belong to. Netting is dated: a return counts from its own time on.

A return belongs to the latest earlier purchase of the same item by the same user that was at least as large,
else to the latest earlier one. What is returned of one purchase never exceeds what was paid for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys.schema import EventType
from spark_jobs.columns import Event
from spark_jobs.lookup import SENT_TO_ALL
from spark_jobs.session import keep, pin
from spark_jobs.steps.clean import Reason
from spark_jobs.steps.order import stable_key

PURCHASE_ID = "purchase_id"
WHOLE = 1 - 1e-9  # a purchase counts as wholly returned from this share of its value on


def match_returns(events: DataFrame, ties: Sequence[str]) -> DataFrame:
    """Adds `reason`, `returned_at` and `anchor_timestamp`; a return's value becomes negative.

    `events`: deduplicated rows with `event_id`. Every input row comes out once, and where it lay if rows were
    laid out by user.
    """
    matches = keep(_credits(_partners(events, ties)))
    told = pin(_told(matches))
    matches.unpersist()
    joined = _beside(events, told)
    is_return = F.col(Event.EVENT_TYPE) == EventType.RETURN
    is_orphan = is_return & F.col("purchase_timestamp").isNull()
    credit = F.coalesce(F.col("credit"), F.col(Event.VALUE))
    kept = [name for name in events.columns if name != Event.VALUE]
    return joined.select(
        *kept,
        F.when(is_return, 0.0 - credit).otherwise(F.coalesce(Event.VALUE, F.lit(0.0))).alias(Event.VALUE),
        F.coalesce("completed_at", F.lit(0)).cast("long").alias(Event.RETURNED_AT),
        F.coalesce("purchase_timestamp", Event.TIMESTAMP).alias(Event.ANCHOR),
        F.when(is_orphan, F.lit(Reason.RETURN_WITHOUT_PURCHASE)).alias(Event.REASON),
    )


def keep_without_matching(events: DataFrame) -> DataFrame:
    """The same columns for data without money: nothing to match."""
    kept = [name for name in events.columns if name != Event.VALUE]
    return events.select(
        *kept,
        F.lit(0.0).alias(Event.VALUE),
        F.lit(0).cast("long").alias(Event.RETURNED_AT),
        F.col(Event.TIMESTAMP).alias(Event.ANCHOR),
        F.lit(None).cast("string").alias(Event.REASON),
    )


def _told(matches: DataFrame) -> DataFrame:
    """What is told of a return (`credit`, `purchase_timestamp`) and of its purchase (`completed_at`)."""
    purchase, none = F.col(PURCHASE_ID).alias(Event.EVENT_ID), F.lit(None)
    refunds = matches.select(
        *(Event.USER_KEY, Event.EVENT_ID, "credit", "purchase_timestamp"),
        none.cast("long").alias("completed_at"),
    )
    refunded = matches.groupBy(Event.USER_KEY, purchase).agg(
        none.cast("double").alias("credit"),
        none.cast("long").alias("purchase_timestamp"),
        F.min("completed_at").alias("completed_at"),
    )
    return refunds.unionByName(refunded)


def _beside(events: DataFrame, told: DataFrame) -> DataFrame:
    """Events, where they lie, with what is told of some of them: of few every task has all, of more what is
    told of its own users."""
    told = told.withColumnsRenamed({Event.USER_KEY: "told_user", Event.EVENT_ID: "told_event"})
    is_same = F.col(Event.EVENT_ID) == F.col("told_event")
    if told.count() <= SENT_TO_ALL:
        joined = events.join(F.broadcast(told.drop("told_user")), on=is_same, how="left")
    else:
        is_same &= F.col(Event.USER_KEY) == F.col("told_user")
        joined = events.join(told.hint("shuffle_hash"), on=is_same, how="left")
    return joined.drop("told_user", "told_event")


def _partners(events: DataFrame, ties: Sequence[str]) -> DataFrame:
    """Each return that has one, with its purchase: one row a return."""
    place = F.struct(*stable_key(ties)).alias("place")
    returns = events.where(F.col(Event.EVENT_TYPE) == EventType.RETURN).select(
        Event.EVENT_ID, Event.USER_KEY, Event.ITEM_ID, Event.TIMESTAMP, Event.QUANTITY, Event.VALUE, place
    )
    purchases = events.where(F.col(Event.EVENT_TYPE) == EventType.PURCHASE).select(
        F.col(Event.EVENT_ID).alias(PURCHASE_ID),
        F.col(Event.USER_KEY).alias("purchase_user"),
        F.col(Event.ITEM_ID).alias("purchase_item"),
        F.col(Event.TIMESTAMP).alias("purchase_timestamp"),
        F.col(Event.QUANTITY).alias("purchase_quantity"),
        F.col(Event.VALUE).alias("purchase_value"),
        place.alias("purchase_place"),
    )
    same = (F.col(Event.USER_KEY) == F.col("purchase_user")) & (
        F.col(Event.ITEM_ID) == F.col("purchase_item")
    )
    earlier = F.col("purchase_timestamp") <= F.col(Event.TIMESTAMP)
    is_large_enough = F.col("purchase_quantity") >= F.col(Event.QUANTITY)
    by_fit = Window.partitionBy(Event.USER_KEY, Event.EVENT_ID).orderBy(
        is_large_enough.desc(), F.col("purchase_place").desc()
    )
    pairs = returns.join(purchases, on=same & earlier, how="inner")
    return pairs.withColumn("fit", F.row_number().over(by_fit)).where(F.col("fit") == 1).drop("fit")


def _credits(partners: DataFrame) -> DataFrame:
    """Adds `credit` (money back, capped over the purchase's returns in time order) and `completed_at`."""
    so_far = (
        Window.partitionBy(Event.USER_KEY, PURCHASE_ID)
        .orderBy("place")
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    asked_so_far = F.sum(Event.VALUE).over(so_far)
    asked_before = asked_so_far - F.col(Event.VALUE)
    paid = F.col("purchase_value")
    credit = F.greatest(F.least(asked_so_far, paid) - F.least(asked_before, paid), F.lit(0.0))
    is_complete = asked_so_far >= paid * WHOLE
    return partners.withColumns(
        {"credit": credit, "completed_at": F.when(is_complete, F.col(Event.TIMESTAMP))}
    )
