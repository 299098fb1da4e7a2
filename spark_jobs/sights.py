"""Who and what the kept events are of: each id once, when it was first seen and in how many rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.schema import Column
from spark_jobs.columns import Event
from spark_jobs.session import pin, together

ROWS = "rows"


@dataclass(frozen=True, kw_only=True)
class Sights:
    """Of users and of items: (id, first_seen, rows)."""

    users: DataFrame
    items: DataFrame


def sights_of(kept: DataFrame) -> Sights:
    """Gone over once for either, for all steps that ask."""
    users, items = together(*[partial(pin, seen(kept, name)) for name in (Event.USER_KEY, Event.ITEM_ID)])
    return Sights(users=users, items=items)


def seen(events: DataFrame, id_column: str) -> DataFrame:
    """(id, first_seen, rows)."""
    named = events.where(F.col(id_column).isNotNull())  # an event may lack an item
    first_seen = F.min(Column.TIMESTAMP).alias(Column.FIRST_SEEN)
    return named.groupBy(id_column).agg(first_seen, F.count(F.lit(1)).alias(ROWS))
