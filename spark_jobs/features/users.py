"""Each user at each cut: what was known by then, and what came after it.

`activity` first sums the log to one row per user, kind, order and day: the many cuts work on little. Days are
counted both from midnight and from each cut's time of day, so that what a cut asks, which is always in whole
days from it, holds for all of a row or for none of it. `activity` also marks the rows that begin an order, so
that a cut counts rows and collects no sets, for which Spark would sort all rows of all cuts.
A return counts for the purchase it belongs to: money in (start, end] known at `end` is the sum over rows with
timestamp <= end whose purchase lies after `start`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys.schema import PAD, SECONDS_PER_DAY, Column, EventType, Split, UserNumeric
from spark_jobs.columns import Event
from spark_jobs.features.follows import LAST_EDGE
from spark_jobs.features.vocabulary import Vocabulary, vocabulary_frame
from spark_jobs.session import few_rows

IS_PURCHASE = "is_purchase"
ORDER = "order"
BEGINS_ORDER = "begins_order"  # the first row of an order's purchases
LAST_MOMENT = "last_moment"  # of a row's events; `timestamp` is the first
PREVIOUS = "previous_timestamp"  # of the user's row before; null at the first
KNOWN, AFTER = "known__", "after__"  # prefixes of what users_at_cuts tells by the cut, and of what came after
CENT_FRACTION = 6  # decimals kept of summed money, so that the order of summing does not show


def activity(events: DataFrame, cuts: Iterable[int]) -> DataFrame:
    """One row per (user, day, order, purchase or not, purchase's time, time of whole return).

    `timestamp` is its first moment, `last_moment` its last, a profile column its newest value with its time;
    `begins_order` and `previous_timestamp` come with it. Users lie together as the events did, by their key.
    """
    timestamp, is_purchase = F.col(Event.TIMESTAMP), F.col(Event.EVENT_TYPE) == EventType.PURCHASE
    order = F.coalesce(F.col(Event.ORDER_ID), timestamp.cast("string"))
    profile = {
        name: F.max(F.when(F.col(name).isNotNull(), F.struct(timestamp, name)))
        for name in events.columns
        if name.startswith(Event.PROFILE)
    }
    starts = sorted({(start + 1) % SECONDS_PER_DAY: start for start in (-1, *cuts)}.values())
    days = {f"day_{number}": _day(timestamp, F.lit(start)) for number, start in enumerate(starts)}
    keys = {
        IS_PURCHASE: is_purchase,
        ORDER: F.when(is_purchase, order),
        "other_anchor": F.when(F.col(Event.ANCHOR) != timestamp, F.col(Event.ANCHOR)),
    }
    user = Column.USER_KEY
    in_time = Window.partitionBy(user).orderBy(Event.TIMESTAMP)
    of_order = Window.partitionBy(user, IS_PURCHASE, ORDER).orderBy(Event.TIMESTAMP)
    return (
        events.withColumns(keys | days)
        .groupBy(user, *days, *keys, Event.RETURNED_AT)
        .agg(
            F.count(F.lit(1)).alias(Column.NUM_EVENTS),
            F.sum(Event.VALUE).alias(Event.VALUE),
            F.max(timestamp).alias(LAST_MOMENT),
            *[newest.alias(name) for name, newest in profile.items()],
            F.min(timestamp).alias(Event.TIMESTAMP),
        )
        .withColumns(
            {
                Event.ANCHOR: F.coalesce("other_anchor", Event.TIMESTAMP),
                BEGINS_ORDER: F.col(IS_PURCHASE) & (F.row_number().over(of_order) == 1),
                PREVIOUS: F.lag(Event.TIMESTAMP).over(in_time),
            }
        )
        .drop("other_anchor", ORDER, *days)
    )


def users_at_cuts(
    rows: DataFrame, cuts: Sequence[tuple[int, str]], *, horizons_days: Sequence[int], last_timestamp: int
) -> DataFrame:
    """(user key, cut, split) with prefix length, activity and profile by the cut, and targets after it.

    `rows`: from `activity`. Users appear at every cut, also with an empty history.
    """
    frame = F.broadcast(few_rows(rows.sparkSession, list(cuts), f"{Column.CUT} long, {Column.SPLIT} string"))
    profile = [name for name in rows.columns if name.startswith(Event.PROFILE)]
    latest = [_latest(name).alias(name) for name in profile]
    grouped = (
        rows.crossJoin(frame)
        .groupBy(Column.USER_KEY, Column.CUT, Column.SPLIT)
        .agg(
            F.sum(F.when(_is_known(), F.col(Column.NUM_EVENTS)).otherwise(0)).alias(Column.PREFIX_LENGTH),
            F.min(Event.TIMESTAMP).alias(Column.FIRST_SEEN),
            F.max(F.when(_is_known(), F.col(LAST_MOMENT))).alias(Column.KNOWN_AT),
            F.min(F.when(~_is_known(), F.col(Event.TIMESTAMP))).alias("next_timestamp"),
            *[column.alias(f"{KNOWN}{name}") for name, column in _known_by_cut().items()],
            *[column.alias(AFTER + name) for name, column in _after_cut(horizons_days).items()],
            *latest,
        )
    )
    return grouped.withColumn("last_timestamp", F.lit(last_timestamp).cast("long"))


def examples(users: DataFrame, *, window_days: int) -> DataFrame:
    """Users with a history at the cut and, at validation and test, those first seen in its window."""
    window_end = F.col(Column.CUT) + window_days * SECONDS_PER_DAY
    has_history = F.col(Column.PREFIX_LENGTH) > 0
    is_held_out = F.col(Column.SPLIT).isin(*Split.HELD_OUT)
    appears = F.col(Column.FIRST_SEEN) <= window_end
    return users.where(has_history | (is_held_out & appears)).select(
        Column.USER_INDEX,
        Column.CUT,
        Column.SPLIT,
        F.col(Column.PREFIX_LENGTH).cast("int").alias(Column.PREFIX_LENGTH),
    )


def value_targets(users: DataFrame, *, horizons_days: Sequence[int]) -> DataFrame:
    """Spend and activity per horizon for users with a history, but at `now`, which nothing has followed yet.

    A horizon longer than `observed_days` holds what was seen so far and must be masked by `observed_days`.
    """

    def listed(name: str, kind: str) -> SparkColumn:
        return F.array(*[F.col(f"{AFTER}{name}_{days}").cast(kind) for days in horizons_days]).alias(name)

    to_days = 1.0 / SECONDS_PER_DAY
    has_history, has_future = F.col(Column.PREFIX_LENGTH) > 0, F.col(Column.SPLIT) != Split.NOW
    return users.where(has_history & has_future).select(
        Column.USER_INDEX,
        Column.CUT,
        listed(Column.SPEND, "double"),
        listed(Column.NUM_ACTIVE_DAYS, "int"),
        listed(Column.NUM_PURCHASES, "int"),
        ((F.col("next_timestamp") - F.col(Column.CUT)) * to_days).alias(Column.NEXT_ACTIVE_DAYS),
        ((F.col("last_timestamp") - F.col(Column.CUT)) * to_days).alias(Column.OBSERVED_DAYS),
    )


def user_features(
    users: DataFrame,
    table: DataFrame | None,
    profile: Mapping[str, Vocabulary],
    *,
    follows: DataFrame | None = None,
) -> DataFrame:
    """The published rows. `users` have key and index; `table`: undated profile columns by user_key;
    `follows`: from `follows_at_cuts`.
    """
    known = users.where(F.col(Column.PREFIX_LENGTH) > 0)
    if table is not None:
        known = known.join(table, on=Column.USER_KEY, how="left")
    for name, vocabulary in profile.items():
        column, index = Event.PROFILE + name, f"index__{name}"
        values = vocabulary_frame(known.sparkSession, vocabulary, value=column, index=index)
        known = known.join(values, on=column, how="left")
    indices = [F.coalesce(F.col(f"index__{name}"), F.lit(PAD)) for name in profile]
    known, in_graph = known.withColumnRenamed(Column.CUT, Column.VALID_FROM), []
    if follows is not None:
        known = known.join(follows, on=[Column.USER_KEY, Column.VALID_FROM], how="left")
        known = known.withColumn(Column.KNOWN_AT, F.greatest(Column.KNOWN_AT, LAST_EDGE))
        in_graph = [F.coalesce(name, F.lit(0)).cast("double").alias(name) for name in UserNumeric.GRAPH]
    return known.select(
        Column.USER_INDEX,
        Column.USER_KEY,
        Column.VALID_FROM,
        Column.KNOWN_AT,
        *[F.col(f"{KNOWN}{name}").cast("double").alias(name) for name in UserNumeric.ALL],
        *in_graph,
        F.array(*indices).cast("array<int>").alias(Column.PROFILE),
    )


def _is_known() -> SparkColumn:
    return F.col(Event.TIMESTAMP) <= F.col(Column.CUT)


def _latest(name: str) -> SparkColumn:
    """The newest value known by the cut; of several in one second the greatest."""
    return F.max(F.when(_is_known(), F.col(name)))[name]


def _money(start: SparkColumn, end: SparkColumn) -> SparkColumn:
    """Net money of purchases in (start, end], as known at `end`."""
    counted = (F.col(Event.ANCHOR) > start) & (F.col(Event.TIMESTAMP) <= end)
    return F.round(F.sum(F.when(counted, F.col(Event.VALUE)).otherwise(0.0)), CENT_FRACTION)


def _begins_day(start: SparkColumn) -> SparkColumn:
    """Whether the user has no earlier row on the same day; days begin right after `start`."""
    previous = F.col(PREVIOUS)
    return previous.isNull() | (_day(previous, start) < _day(F.col(Event.TIMESTAMP), start))


def _day(timestamp: SparkColumn, start: SparkColumn) -> SparkColumn:
    return F.floor((timestamp - start - 1) / SECONDS_PER_DAY)


def _known_by_cut() -> dict[str, SparkColumn]:
    """UserNumeric columns, from rows at or before the cut only."""
    cut = F.col(Column.CUT)
    first, last = (F.when(_is_known(), F.col(name)) for name in (Event.TIMESTAMP, LAST_MOMENT))
    return {
        UserNumeric.NUM_EVENTS: F.sum(F.when(_is_known(), F.col(Column.NUM_EVENTS)).otherwise(0)),
        UserNumeric.NUM_ORDERS: F.count_if(_is_known() & F.col(BEGINS_ORDER)),
        UserNumeric.NUM_ACTIVE_DAYS: F.count_if(_is_known() & _begins_day(F.lit(-1))),
        UserNumeric.RECENCY_DAYS: (F.max(cut) - F.max(last)) / SECONDS_PER_DAY,
        UserNumeric.TENURE_DAYS: (F.max(cut) - F.min(first)) / SECONDS_PER_DAY,
        UserNumeric.SPEND: _money(F.lit(-1), cut),
        UserNumeric.SPEND_30D: _money(cut - 30 * SECONDS_PER_DAY, cut),
        UserNumeric.SPEND_90D: _money(cut - 90 * SECONDS_PER_DAY, cut),
    }


def _after_cut(horizons_days: Sequence[int]) -> dict[str, SparkColumn]:
    """Targets per horizon, named `<name>_<days>`."""
    cut, timestamp, returned_at = F.col(Column.CUT), F.col(Event.TIMESTAMP), F.col(Event.RETURNED_AT)
    targets: dict[str, SparkColumn] = {}
    for days in horizons_days:
        end = cut + days * SECONDS_PER_DAY
        is_after = (timestamp > cut) & (timestamp <= end)
        is_kept = (returned_at == 0) | (returned_at > end)
        bought = is_after & F.col(IS_PURCHASE) & is_kept
        targets[f"{Column.SPEND}_{days}"] = F.greatest(_money(cut, end), F.lit(0.0))
        targets[f"{Column.NUM_ACTIVE_DAYS}_{days}"] = F.count_if(is_after & _begins_day(cut))
        targets[f"{Column.NUM_PURCHASES}_{days}"] = F.sum(
            F.when(bought, F.col(Column.NUM_EVENTS)).otherwise(0)
        )
    return targets
