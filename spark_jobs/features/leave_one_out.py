"""Each user's last target events held out: the last for the test, the one before for validation.

Features are those of the training prefix. There is one snapshot, at cut 0; nothing is counted in days here.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys.schema import Column, Split, UserNumeric
from spark_jobs.columns import Event
from spark_jobs.features.items import Facts

FEWEST_TARGETS = 3  # users with fewer are trained on, with all they did, and not tested
NO_CUT = 0


def prefixes(events: DataFrame, targets: list[str]) -> DataFrame:
    """(user key, train, validation, test): prefix lengths; null where the user is not held out."""
    is_target = F.col(Event.EVENT_TYPE).isin(targets)
    from_end = Window.partitionBy(Column.USER_KEY).orderBy(
        F.when(is_target, F.col(Event.POSITION)).desc_nulls_last()
    )
    ranked = events.withColumn("from_end", F.row_number().over(from_end))
    before_last = F.max(F.when(is_target & (F.col("from_end") == 1), F.col(Event.POSITION))) - 1
    before_second = F.max(F.when(is_target & (F.col("from_end") == 2), F.col(Event.POSITION))) - 1
    is_held_out = F.count_if(is_target) >= FEWEST_TARGETS
    return ranked.groupBy(Column.USER_KEY).agg(
        F.when(is_held_out, before_second).otherwise(F.max(Event.POSITION)).alias(Split.TRAIN),
        F.when(is_held_out, before_second).alias(Split.VALIDATION),
        F.when(is_held_out, before_last).alias(Split.TEST),
    )


def examples(prefix_lengths: DataFrame) -> DataFrame:
    """One row per user and split. `prefix_lengths` have the users' index."""
    pairs = [
        F.struct(F.lit(split).alias(Column.SPLIT), F.col(split).cast("int").alias(Column.PREFIX_LENGTH))
        for split in (Split.TRAIN, Split.VALIDATION, Split.TEST)
    ]
    return (
        prefix_lengths.select(Column.USER_INDEX, F.explode(F.array(*pairs)).alias("example"))
        .where(F.col(f"example.{Column.PREFIX_LENGTH}").isNotNull())
        .select(
            Column.USER_INDEX,
            F.lit(NO_CUT).cast("long").alias(Column.CUT),
            f"example.{Column.SPLIT}",
            f"example.{Column.PREFIX_LENGTH}",
        )
    )


def facts(events: DataFrame, prefix_lengths: DataFrame, targets: list[str]) -> Facts:
    """Known is what lies in its user's training prefix, however long ago."""
    lengths = prefix_lengths.select(Column.USER_KEY, F.col(Split.TRAIN).alias("train_length"))
    is_known = F.col(Event.POSITION) <= F.col("train_length")
    is_target = F.col(Event.EVENT_TYPE).isin(targets)
    return Facts(
        events=events.join(lengths, on=Column.USER_KEY, how="inner"),
        known={NO_CUT: is_known},
        recent={NO_CUT: is_known & is_target},
    )


def users(facts: Facts) -> DataFrame:
    """The columns `users.user_features` reads, over the training prefix; time and money are 0."""
    profile = [name for name in facts.events.columns if name.startswith(Event.PROFILE)]
    known = facts.events.where(facts.known[NO_CUT])
    counted = {
        UserNumeric.NUM_EVENTS: F.count(F.lit(1)),
        UserNumeric.NUM_ORDERS: F.count_if(facts.recent[NO_CUT]),
    }
    return known.groupBy(Column.USER_KEY).agg(
        F.lit(NO_CUT).cast("long").alias(Column.CUT),
        F.count(F.lit(1)).alias(Column.PREFIX_LENGTH),
        F.max(Event.TIMESTAMP).alias(Column.KNOWN_AT),
        *[counted.get(name, F.lit(0.0)).alias(f"known__{name}") for name in UserNumeric.ALL],
        *[F.max_by(F.col(name), F.col(Event.POSITION)).alias(name) for name in profile],
    )
