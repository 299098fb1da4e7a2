"""Outside ids -> indices from 1, in order of first sight; an id keeps its index for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys.schema import PAD, Column
from spark_jobs.columns import Event
from spark_jobs.lookup import look_up
from spark_jobs.session import pin, together
from spark_jobs.sights import Sights

NUMBERED_BY = "numbered_by"


@dataclass(frozen=True, kw_only=True)
class Indexed:
    """Kept events as they lie, by user key, and the id maps.

    What is made of events gets an index where it needs one: to hold all of them once more costs more.
    """

    events: DataFrame
    users: DataFrame  # user_key, user_index, first_seen
    items: DataFrame  # item_id, item_index, first_seen
    ties: Sequence[str]
    last_timestamp: int

    def in_order(self) -> DataFrame:
        """Events with `item_index`, that of no item being PAD, and `position` within their user."""
        by_user = Window.partitionBy(Column.USER_KEY).orderBy(Event.EVENT_ID)
        indexed = with_item_index(self.events, self.items)
        return indexed.withColumn(Event.POSITION, F.row_number().over(by_user))

    def with_users(self, rows: DataFrame) -> DataFrame:
        """Rows with `user_index` beside their `user_key`, where they lie."""
        indices = self.users.select(Column.USER_KEY, Column.USER_INDEX).hint("shuffle_hash")
        return rows.join(indices, on=Column.USER_KEY, how="inner")


@dataclass(frozen=True, kw_only=True)
class Prior:
    """The id maps of the last version and the highest indices it ever gave out."""

    users: DataFrame | None = None
    items: DataFrame | None = None
    num_users: int = 0
    num_items: int = 0


def index_events(
    kept: DataFrame,
    *,
    sights: Sights,
    prior: Prior,
    event_types: Mapping[str, int],
    ties: Sequence[str],
    last_timestamp: int,
    lines: DataFrame | None = None,
) -> Indexed:
    """Indices for users and items, those of `prior` as they are, and of the events' types.

    `lines`: clean lines with their batch; new ids are then numbered batch by batch, as if each were a run.
    """

    def indexed_users() -> DataFrame:
        seen = first_sight(sights.users, Event.USER_KEY, lines)
        names = {"id_column": Column.USER_KEY, "index_column": Column.USER_INDEX}
        return pin(assign_indices(seen, **names, prior=prior.users, highest=prior.num_users))

    def indexed_items() -> DataFrame:
        seen = first_sight(sights.items, Event.ITEM_ID, lines)
        names = {"id_column": Column.ITEM_ID, "index_column": Column.ITEM_INDEX}
        return pin(assign_indices(seen, **names, prior=prior.items, highest=prior.num_items))

    users, items = together(indexed_users, indexed_items)
    types = F.create_map(*[F.lit(x) for pair in event_types.items() for x in pair])
    events = kept.withColumn(Event.TYPE_INDEX, F.element_at(types, F.col(Event.EVENT_TYPE)))
    return Indexed(
        events=events.drop(Event.BATCH), users=users, items=items, ties=ties, last_timestamp=last_timestamp
    )


def with_item_index(events: DataFrame, items: DataFrame) -> DataFrame:
    """Adds `item_index`, PAD where an event has no item."""
    told = look_up(events, items.select(Column.ITEM_ID, Column.ITEM_INDEX), by=Column.ITEM_ID)
    return told.withColumn(Column.ITEM_INDEX, F.coalesce(Column.ITEM_INDEX, F.lit(PAD)))


def first_sight(seen: DataFrame, id_column: str, lines: DataFrame | None = None) -> DataFrame:
    """(id, first_seen, numbered_by): when each id was first seen, and what its number goes by.

    With `lines` that is first the batch, then the time known when that batch had come in. `seen` is as
    `sights` gives it.
    """
    if lines is None:
        return seen.withColumn(NUMBERED_BY, F.struct(F.lit(1).alias(Event.BATCH), F.col(Column.FIRST_SEEN)))
    when = F.struct(F.col(Event.BATCH), F.col(Column.TIMESTAMP).alias(Column.FIRST_SEEN))
    first = lines.groupBy(id_column).agg(F.min(when).alias(NUMBERED_BY))
    return seen.join(first, on=id_column, how="inner")


def assign_indices(
    seen: DataFrame, *, id_column: str, index_column: str, prior: DataFrame | None, highest: int
) -> DataFrame:
    """(id, index, first_seen). Ids in `prior` keep their index, also where they are no longer seen.

    New ids are numbered from `highest` + 1 by (numbered_by, id). `prior` has the three columns of the result.
    """
    contract = (id_column, index_column, Column.FIRST_SEEN)
    if prior is None:
        return number_in_order(seen, id_column, index_column, highest).select(*contract)
    known = prior.select(id_column, index_column, F.col(Column.FIRST_SEEN).alias("prior_first_seen"))
    kept = known.join(seen, on=id_column, how="left").withColumn(
        Column.FIRST_SEEN, F.coalesce(Column.FIRST_SEEN, "prior_first_seen")
    )
    new = seen.join(known.select(id_column), on=id_column, how="left_anti")
    numbered = number_in_order(new, id_column, index_column, highest)
    return kept.select(*contract).unionByName(numbered.select(*contract))


def number_in_order(frame: DataFrame, id_column: str, index_column: str, highest: int) -> DataFrame:
    """Adds an index from `highest` + 1 in order of (numbered_by, id), without one task holding all rows.

    A global sort leaves ascending partitions; each partition is numbered by itself and shifted by the rows of
    those before it.
    """
    order = (NUMBERED_BY, id_column)
    ordered = pin(frame.orderBy(*order).withColumn("part", F.spark_partition_id()))
    shifts: dict[int, int] = {}
    next_index = highest
    for row in sorted(ordered.groupBy("part").count().collect()):
        shifts[row["part"]] = next_index
        next_index += row["count"]
    if not shifts:
        return ordered.withColumn(index_column, F.lit(0)).drop("part")
    shift = F.element_at(F.create_map(*[F.lit(x) for pair in shifts.items() for x in pair]), F.col("part"))
    within = F.row_number().over(Window.partitionBy("part").orderBy(*order))
    return ordered.withColumn(index_column, (shift + within).cast("int")).drop("part")
