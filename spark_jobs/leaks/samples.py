"""Users and items as they were known at the validation cut, beside what came in the window after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.schema import SECONDS_PER_DAY, Column, Split, UserNumeric
from spark_jobs.columns import Event
from spark_jobs.features.cuts import Cuts
from spark_jobs.features.indices import Indexed
from spark_jobs.features.items import FIELD
from spark_jobs.features.tables import FeatureTables
from spark_jobs.features.users import AFTER, KNOWN
from spark_jobs.leaks.labels import Sample
from spark_jobs.settings import Dataset

MOST_ROWS = 3000
_OUTCOME, _AGE_DAYS = "outcome", "age_days"


def user_sample(tables: FeatureTables, user_table: DataFrame | None, dataset: Dataset, cuts: Cuts) -> Sample:
    """Profile, activity and follows of some users; the outcome is their spend, without money their active
    days, over the horizon nearest to the window."""
    days = _horizon_days(dataset, cuts)
    name = Column.SPEND if dataset.has_value else Column.NUM_ACTIVE_DAYS
    is_known = (F.col(Column.SPLIT) == Split.VALIDATION) & (F.col(Column.PREFIX_LENGTH) > 0)
    known = _some(tables.users.where(is_known), Column.USER_INDEX)
    if user_table is not None:
        known = known.join(user_table, on=Column.USER_KEY, how="left")
    numbers = {numeric: F.col(KNOWN + numeric) for numeric in UserNumeric.ALL}
    if dataset.graph is not None:
        at_cut = tables.user_features.where(F.col(Column.VALID_FROM) == cuts.validation)
        known = known.join(
            at_cut.select(Column.USER_INDEX, *UserNumeric.GRAPH), on=Column.USER_INDEX, how="inner"
        )
        if dataset.graph.timestamp is None:  # of today, as a column of the user table is
            of_today = {Event.PROFILE + name: F.col(name).cast("string") for name in UserNumeric.GRAPH}
            known = known.withColumns(of_today)
        else:
            numbers |= {name: F.col(name) for name in UserNumeric.GRAPH}
    outcome = F.col(f"{AFTER}{name}_{days}")
    return _collected(known, prefix=Event.PROFILE, numbers=numbers, outcome=outcome, order=Column.USER_INDEX)


def item_sample(tables: FeatureTables, indexed: Indexed, dataset: Dataset, cuts: Cuts) -> Sample | None:
    """Fields of the item table, popularity, price and age of some items; the outcome is the number of target
    events in the window. None without fields."""
    if not any(name.startswith(FIELD) for name in tables.snapshots.columns):
        return None
    cut, timestamp = cuts.validation, F.col(Event.TIMESTAMP)
    is_known = (F.col(Column.VALID_FROM) == cut) & F.col(Column.IN_TRAINING)
    known = _some(tables.snapshots.where(is_known), Column.ITEM_INDEX)
    end = cut + dataset.split.window_days * SECONDS_PER_DAY
    is_target = F.col(Event.EVENT_TYPE).isin(dataset.target_event_types)
    sold = (
        indexed.events.where((timestamp > cut) & (timestamp <= end) & is_target)
        .groupBy(Column.ITEM_ID)
        .agg(F.count(F.lit(1)).alias(_OUTCOME))
    )
    numbers = {
        Column.POPULARITY: F.col(Column.POPULARITY),
        Column.PRICE: F.coalesce(Column.PRICE, F.lit(0.0)),
        _AGE_DAYS: (cut - F.col(Column.FIRST_SEEN)) / SECONDS_PER_DAY,
        Column.KNOWN_AT: (cut - F.col(Column.KNOWN_AT)) / SECONDS_PER_DAY,
    }
    joined = known.join(sold, on=Column.ITEM_ID, how="left")
    outcome = F.coalesce(_OUTCOME, F.lit(0))
    return _collected(joined, prefix=FIELD, numbers=numbers, outcome=outcome, order=Column.ITEM_INDEX)


def _horizon_days(dataset: Dataset, cuts: Cuts) -> int:
    """Of those that were watched to their end, which the one nearest to the window may not be."""
    watched_days = (cuts.now - cuts.validation) / SECONDS_PER_DAY
    horizons = [days for days in dataset.split.horizons_days if days <= watched_days]
    window_days = dataset.split.window_days
    return min(horizons or dataset.split.horizons_days[:1], key=lambda days: abs(days - window_days))


def _some(frame: DataFrame, key: str) -> DataFrame:
    """At most so many rows, by hash."""
    return frame.orderBy(F.xxhash64(key), key).limit(MOST_ROWS)


def _collected(
    frame: DataFrame, *, prefix: str, numbers: dict[str, SparkColumn], outcome: SparkColumn, order: str
) -> Sample:
    undated = [name for name in frame.columns if name.startswith(prefix)]
    shown = [column.cast("double").alias(f"number__{name}") for name, column in numbers.items()]
    chosen = frame.select(order, *undated, *shown, outcome.cast("double").alias(_OUTCOME))
    rows: Sequence[Any] = chosen.orderBy(order).collect()
    return Sample(
        undated={name.removeprefix(prefix): [row[name] for row in rows] for name in undated},
        numbers={name: np.array([row[f"number__{name}"] for row in rows]) for name in numbers},
        outcome=np.array([row[_OUTCOME] for row in rows]),
    )
