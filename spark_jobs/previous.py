"""What the tables before have settled: indices that stay, fitted values that are frozen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys.schema import Column, Split, Table
from spark_jobs.features.cuts import Cuts
from spark_jobs.features.indices import Indexed, Prior
from spark_jobs.features.items import LOG_PRICE, PRICE_BAND
from spark_jobs.features.vocabulary import PriorFit
from spark_jobs.progress import say
from spark_jobs.publish import read_document, uri


def prior_indices(spark: SparkSession, previous: tuple[Path, dict[str, Any]] | None) -> Prior:
    """The last version's id maps, read from its tables."""
    if previous is None:
        return Prior()
    folder, metadata = previous
    users = spark.read.parquet(uri(folder / Table.HISTORIES)).where(F.col(Column.WINDOW_INDEX) == 0)
    items = spark.read.parquet(uri(folder / Table.ITEM_FEATURES))
    return Prior(
        users=users.select(Column.USER_KEY, Column.USER_INDEX, Column.FIRST_SEEN),
        items=items.select(Column.ITEM_ID, Column.ITEM_INDEX, Column.FIRST_SEEN).distinct(),
        num_users=metadata["num_users"],
        num_items=metadata["num_items"],
    )


def same_indices(indexed: Indexed, prior: Prior) -> bool:
    """Whether every id that the last version knew has the index that it had there."""
    for now, before, name, column in (
        (indexed.users, prior.users, Column.USER_KEY, Column.USER_INDEX),
        (indexed.items, prior.items, Column.ITEM_ID, Column.ITEM_INDEX),
    ):
        if before is None:
            continue
        known = before.select(name, F.col(column).alias("before"))
        both = known.join(now.select(name, column), on=name, how="left")
        if not both.where(~F.col(column).eqNullSafe(F.col("before"))).isEmpty():
            return False
    return True


def prior_fit(previous: tuple[Path, dict[str, Any]] | None, cuts: Cuts | None) -> PriorFit:
    """What the last version had fitted; nothing where its training time ends later than this one's."""
    if previous is None:
        return PriorFit()
    folder, metadata = previous
    if cuts is not None and metadata["split"]["cuts"][Split.VALIDATION] > cuts.validation:
        say("the last version was fitted on later events: words, categories and price bands begin anew")
        return PriorFit()
    fitted = read_document(folder, Table.VOCABULARIES)
    if PRICE_BAND not in [field["name"] for field in metadata["item_fields"]]:
        fitted["price_band_thresholds"] = None
    return PriorFit(**fitted, log_price=metadata["scalers"].get(LOG_PRICE))


def highest_indices(indexed: Indexed, previous: Mapping[str, Any] | None) -> dict[str, int]:
    """The highest indices ever given out: an index that is free again is not used again."""
    sizes = {}
    for name, frame, column in (
        ("num_items", indexed.items, Column.ITEM_INDEX),
        ("num_users", indexed.users, Column.USER_INDEX),
    ):
        row = frame.agg(F.max(column)).first()
        sizes[name] = max(int(row[0] or 0) if row else 0, previous[name] if previous else 0)
    return sizes


def profile_of(previous: tuple[Path, dict[str, Any]] | None) -> dict[str, Any] | None:
    """What the kept rows of the last version looked like; None where it was not told."""
    if previous is None or not (previous[0] / Table.PROFILE).exists():
        return None
    return read_document(previous[0], Table.PROFILE)
