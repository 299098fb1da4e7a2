"""A table as files of equal rows, by the counts of its partitions and their offsets: no row is in Python."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.schema import Column, Table
from spark_jobs.session import pin

SORTED_BY = {  # the tables that training reads
    Table.HISTORIES: (Column.USER_INDEX, Column.WINDOW_INDEX),
    Table.EXAMPLES: (Column.CUT, Column.USER_INDEX),
    Table.VALUE_TARGETS: (Column.CUT, Column.USER_INDEX),
    Table.USER_FEATURES: (Column.VALID_FROM, Column.USER_INDEX),
    Table.ITEM_FEATURES: (Column.VALID_FROM, Column.ITEM_INDEX),
}
_SHARD, _PART, _PLACE = "__shard", "__part", "__place"
_PART_BIT = 33  # of monotonically_increasing_id: above it the partition, below it the row's place in it


def equal_shards(frame: DataFrame, *, rows: int, order: Sequence[str]) -> DataFrame:
    """As few partitions as hold at most `rows` rows each; none has more than one row more than another.

    Each is sorted by `order`, so that a reader can pass over row groups by their statistics.
    """
    place = F.monotonically_increasing_id()
    placed = pin(frame.withColumn(_PLACE, place), on=StorageLevel.DISK_ONLY)
    parts = placed.groupBy(F.shiftright(_PLACE, _PART_BIT).alias(_PART)).count().collect()
    counts = {row[_PART]: row["count"] for row in parts}
    total = sum(counts.values())
    if total == 0:
        return placed.drop(_PLACE).coalesce(1)
    offsets, before = {}, 0
    for part in sorted(counts):
        offsets[part] = before
        before += counts[part]
    num_shards = ceil(total / rows)
    offset = F.element_at(
        F.create_map(*[F.lit(x).cast("long") for pair in offsets.items() for x in pair]),
        F.shiftright(_PLACE, _PART_BIT),
    )
    in_part = F.col(_PLACE).bitwiseAND(F.lit(2**_PART_BIT - 1))
    shard = F.floor((offset + in_part) * num_shards / F.lit(total)).cast("int")
    return (
        placed.withColumn(_SHARD, shard)
        .repartitionById(num_shards, F.col(_SHARD))
        .drop(_SHARD, _PLACE)
        .sortWithinPartitions(*order)
    )
