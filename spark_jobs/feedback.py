"""What the platform handed back: outcomes join the log once, impressions learn what came of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.schema import Impression, InputError, Outcome, Response
from spark_jobs.columns import Event
from spark_jobs.session import few_rows

ONE_PIECE = 1.0
_ORDER_PREFIX = "outcome:"
_SAME_MONEY = 4  # decimals that must agree: quantity x price and the money told differ in the last bits
_IMPRESSION_TYPES = {
    Impression.POLICY_VERSION: "string",
    Impression.SLATE_ID: "string",
    Impression.USER_KEY: "string",
    Impression.ITEM_INDEX: "int",
    Impression.ITEM_ID: "string",
    Impression.SLOT: "int",
    Impression.SCORE: "float",
    Impression.TEMPERATURE: "float",
    Impression.PROPENSITY: "double",
    Impression.IS_DETERMINISTIC: "boolean",
    Impression.CANDIDATES_HASH: "string",
    Impression.TIMESTAMP: "long",
}
_OUTCOME_TYPES = {
    Outcome.OUTCOME_ID: "string",
    Outcome.USER_KEY: "string",
    Outcome.ITEM_ID: "string",
    Outcome.EVENT_TYPE: "string",
    Outcome.TIMESTAMP: "long",
    Outcome.VALUE: "double",
    Outcome.SLATE_ID: "string",
}


def outcomes_as_events(outcomes: DataFrame, *, like: Sequence[str]) -> DataFrame:
    """Outcome log rows -> canonical events with the columns `like`, one per `outcome_id`.

    InputError where a column of the log is missing.
    """
    unique = _unique(outcomes)
    money = F.abs(F.col(Outcome.VALUE))
    columns = {
        Event.USER_KEY: F.col(Outcome.USER_KEY),
        Event.ITEM_ID: F.col(Outcome.ITEM_ID),
        Event.EVENT_TYPE: F.col(Outcome.EVENT_TYPE),
        Event.TIMESTAMP: F.col(Outcome.TIMESTAMP).cast("long"),
        Event.ORDER_ID: F.concat(F.lit(_ORDER_PREFIX), F.col(Outcome.OUTCOME_ID)),
        Event.QUANTITY: F.lit(ONE_PIECE),
        Event.UNIT_PRICE: money,
        Event.VALUE: money,
        Event.DWELL_S: F.lit(None).cast("double"),
    }
    empty = F.lit(None).cast("string")
    return unique.select(*[columns.get(name, empty).alias(name) for name in like])


def is_outcome() -> Column:
    """True for an event that came from the feedback log."""
    return F.coalesce(F.col(Event.ORDER_ID).startswith(_ORDER_PREFIX), F.lit(False))


def without_logged(events: DataFrame, *, has_value: bool) -> DataFrame:
    """Clean events without the outcomes that stand in the log too: same user, item, type, second and money.

    The log's row stays, which knows more. Money counts only with `has_value`; none is as good as 0.
    """
    money = F.round(F.coalesce(F.col(Event.VALUE), F.lit(0.0)), _SAME_MONEY) if has_value else F.lit(0.0)
    same = [Event.USER_KEY, Event.ITEM_ID, Event.EVENT_TYPE, Event.TIMESTAMP, "money"]
    priced = events.withColumn("money", money)
    log, told = priced.where(~is_outcome()), priced.where(is_outcome())
    logged = log.join(told.select(*same).distinct(), on=same, how="left_semi").select(*same)
    fresh = told.join(logged.distinct(), on=same, how="left_anti")
    return log.unionByName(fresh).select(*events.columns)


def impressions_with_responses(
    impressions: DataFrame | None, outcomes: DataFrame | None, *, spark: SparkSession
) -> DataFrame:
    """Impression log rows -> one per (slate_id, slot), with what that user did with that item from then on.

    `None`: nothing was handed back. InputError where a column of a log is missing.
    """
    shown = _typed(impressions, _IMPRESSION_TYPES, spark).dropDuplicates(
        [Impression.SLATE_ID, Impression.SLOT]
    )
    happened = _unique(_typed(outcomes, _OUTCOME_TYPES, spark)).select(
        Outcome.SLATE_ID,
        Outcome.USER_KEY,
        Outcome.ITEM_ID,
        F.col(Outcome.TIMESTAMP).alias(Response.FIRST_AT),
        F.col(Outcome.VALUE).alias(Response.VALUE),
    )
    keys = [Outcome.SLATE_ID, Outcome.USER_KEY, Outcome.ITEM_ID]
    pairs = shown.join(happened, on=keys, how="left")
    follows = F.col(Response.FIRST_AT) >= F.col(Impression.TIMESTAMP)
    return pairs.groupBy(*_IMPRESSION_TYPES).agg(
        F.count(F.when(follows, 1)).cast("int").alias(Response.NUM_OUTCOMES),
        F.coalesce(F.sum(F.when(follows, F.col(Response.VALUE))), F.lit(0.0)).alias(Response.VALUE),
        F.min(F.when(follows, F.col(Response.FIRST_AT))).alias(Response.FIRST_AT),
    )


def _typed(log: DataFrame | None, types: dict[str, str], spark: SparkSession) -> DataFrame:
    if log is None:
        return few_rows(spark, [], ", ".join(f"{name} {kind}" for name, kind in types.items()))
    _check_columns(log, types)
    return log.select(*[F.col(name).cast(kind).alias(name) for name, kind in types.items()])


def _unique(outcomes: DataFrame) -> DataFrame:
    """One row an `outcome_id`; of rows that differ (which `recsys feedback` never writes) the smallest."""
    _check_columns(outcomes, Outcome.LOG)
    rest = [name for name in Outcome.LOG if name != Outcome.OUTCOME_ID]
    row = F.min(F.struct(Outcome.TIMESTAMP, *[name for name in rest if name != Outcome.TIMESTAMP]))
    unique = outcomes.groupBy(Outcome.OUTCOME_ID).agg(row.alias("row"))
    return unique.select(Outcome.OUTCOME_ID, "row.*")


def _check_columns(log: DataFrame, names: Iterable[str]) -> None:
    missing = [name for name in names if name not in log.columns]
    if missing:
        raise InputError(f"the feedback log has no column {missing[0]!r}; write it with `recsys feedback`")
