"""What was known of a sample of users at a cut, computed twice: from the log, and with later lines mixed up.

The raw lines are mixed, so that the SQL of a data set's `columns` is tested as well as our own steps. Both
variants go through them side by side, as users and items of their own that a mark tells apart. The undated
item and user tables take no part: nothing in them changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys.pseudonym import Key
from recsys.schema import Column, Split
from spark_jobs.columns import Event
from spark_jobs.expressions import seconds_column, text_column
from spark_jobs.features import items as item_steps
from spark_jobs.features import users as user_steps
from spark_jobs.session import pin
from spark_jobs.settings import TYPED_FORMATS, Dataset
from spark_jobs.steps.clean import flag
from spark_jobs.steps.duplicates import deduplicate, named
from spark_jobs.steps.normalise import normalise
from spark_jobs.steps.order import tie_columns
from spark_jobs.steps.pseudonymise import pseudonymise
from spark_jobs.steps.returns import keep_without_matching, match_returns
from spark_jobs.steps.sensitive import guarded

MARK = "\x00"  # begins the ids of those whose future is another one
BUCKETS = 8  # in which later lines are mixed, so that no task holds all
FARTHEST = 7  # lines from which a value may come
ONE_LEFT_OUT_OF = 4
SCALE = 1.5
EVENTS = "events"  # what the log itself says up to the cut: a value, a dwell, when a purchase was sent back
_RESOLUTION = 1_000_000
_AFTER, _STILL, _PLACE, _RAW = "__after_cut", "__still_after", "__place", "__raw"


@dataclass(frozen=True, kw_only=True)
class FutureChanges:
    """`changed`: rows that differ, by feature; `compared`: users and items known at the cut."""

    changed: dict[str, int]
    compared: int


class _Facts(NamedTuple):
    """Rows with a key and what is known of it, by the name of the feature."""

    frame: DataFrame
    key: str
    features: Mapping[str, SparkColumn]


def future_changes(
    raw: DataFrame, dataset: Dataset, *, cut: int, now: int, key: Key, share: float
) -> FutureChanges:
    """Features at the cut that another future has changed. `raw`: from `read_events`; `now`: Unix seconds
    when it came in; `share`: of the users, chosen by hash.
    """
    lines = _sampled(raw, dataset, cut=cut, share=share)
    variants = [
        _clean(frame, dataset, now=now, key=key, mark=mark)
        for frame, mark in ((lines, ""), (_mixed(lines, dataset, cut=cut), MARK))
    ]
    unique = pin(named(variants[0].unionByName(variants[1])))
    ties = tie_columns(dataset.tie_key, unique.columns)
    matched = match_returns(unique, ties) if dataset.has_value else keep_without_matching(unique)
    kept = pin(matched.where(F.col(Event.REASON).isNull()))
    return _compared([_users(kept, dataset, cut), _items(kept, dataset, cut, ties), _events(kept, cut)])


def _sampled(raw: DataFrame, dataset: Dataset, *, cut: int, share: float) -> DataFrame:
    """Raw lines of some users, each with whether it lies after the cut."""
    user, path = dataset.columns.user_id, dataset.events.path

    def told(seen: DataFrame) -> dict[str, SparkColumn]:
        place = text_column(seen, user, setting="columns.user_id", path=path)
        return {_PLACE: place, _AFTER: _seconds(seen, dataset) > cut}

    frame = _beside(raw, dataset, told)
    chosen = F.pmod(F.xxhash64(_PLACE), F.lit(_RESOLUTION)) < round(share * _RESOLUTION)
    return pin(frame.where(F.col(_PLACE).isNotNull() & F.col(_AFTER).isNotNull() & chosen).drop(_PLACE))


def _beside(
    lines: DataFrame, dataset: Dataset, told: Callable[[DataFrame], Mapping[str, SparkColumn]]
) -> DataFrame:
    """Raw lines, and what is told of them as the other steps see them: a coarse time may lie before a cut
    that the exact one lies after."""
    whole = lines.withColumn(_RAW, F.struct(*[F.col(f"`{name}`") for name in lines.columns]))
    seen = guarded(whole, dataset.sensitive, path=dataset.events.path)
    columns = told(seen)
    return seen.select(_RAW, *[column.alias(name) for name, column in columns.items()]).select(
        f"{_RAW}.*", *columns
    )


def _seconds(raw: DataFrame, dataset: Dataset) -> SparkColumn:
    loose = dataset.events.format not in TYPED_FORMATS
    named, path = dataset.columns.timestamp, dataset.events.path
    return seconds_column(raw, named, setting="columns.timestamp", path=path, loose=loose)


def _mixed(lines: DataFrame, dataset: Dataset, *, cut: int) -> DataFrame:
    """Later lines with each column from another of them and fractions scaled; some are left out."""
    columns = [name for name in lines.columns if name != _AFTER]
    plain = [part.name for part in lines.schema if isinstance(part.dataType, T.AtomicType)]
    ids = f"{dataset.columns.user_id} {dataset.columns.item_id}"
    scaled = {
        part.name
        for part in lines.schema
        if isinstance(part.dataType, T.FractionalType) and part.name not in ids
    }
    place = F.xxhash64(*[F.col(f"`{name}`") for name in plain])
    in_place = Window.partitionBy(F.pmod(_PLACE, F.lit(BUCKETS))).orderBy(_PLACE)

    def other(name: str, at: int) -> SparkColumn:
        own = F.col(f"`{name}`")
        value = F.coalesce(F.lead(own, 1 + at % FARTHEST).over(in_place), own)
        return (value * SCALE if name in scaled else value).cast(lines.schema[name].dataType).alias(name)

    later = lines.where(_AFTER).withColumn(_PLACE, place)
    moved = later.select(_PLACE, *[other(name, at) for at, name in enumerate(columns)])
    fewer = moved.where(F.pmod(F.shiftright(_PLACE, 8), F.lit(ONE_LEFT_OUT_OF)) > 0).drop(_PLACE)
    other_future = lines.where(~F.col(_AFTER)).unionByName(fewer.withColumn(_AFTER, F.lit(True)))
    timed = _beside(
        _computed_again(other_future, dataset), dataset, lambda seen: {_STILL: _seconds(seen, dataset) > cut}
    )
    return timed.where(~F.col(_AFTER) | F.col(_STILL)).drop(_STILL)


def _clean(lines: DataFrame, dataset: Dataset, *, now: int, key: Key, mark: str) -> DataFrame:
    """Clean events, each once, with marked ids."""
    seen = guarded(_computed_again(lines, dataset), dataset.sensitive, path=dataset.events.path)
    flagged = flag(pseudonymise(normalise(seen, dataset), key), dataset, now=now)
    clean = flagged.where(F.col(Event.REASON).isNull()).drop(Event.UNREADABLE, Event.REASON)
    ids = {name: F.concat(F.lit(mark), F.col(name)) for name in (Event.USER_KEY, Event.ITEM_ID)}
    return deduplicate(clean.withColumns(ids), tie_columns(dataset.tie_key, clean.columns))


def _computed_again(lines: DataFrame, dataset: Dataset) -> DataFrame:
    """With the columns that the data set computes from others. What a file's name tells stays, and what is
    made of a raw column that a computed one has taken the place of."""
    computed = dataset.events.computed
    gone = re.compile("|".join([r"\b_metadata\b", *(rf"\b{re.escape(name)}\b" for name in computed)]), re.I)
    anew = {name: text for name, text in computed.items() if not gone.search(text)}
    return lines.withColumns({name: F.expr(text) for name, text in anew.items()}) if anew else lines


def _users(kept: DataFrame, dataset: Dataset, cut: int) -> _Facts:
    users = user_steps.users_at_cuts(
        user_steps.activity(kept, [cut]),
        [(cut, Split.VALIDATION)],
        horizons_days=dataset.split.horizons_days,
        last_timestamp=cut,
    ).where(F.col(Column.PREFIX_LENGTH) > 0)
    names = [Column.PREFIX_LENGTH, Column.FIRST_SEEN, Column.KNOWN_AT]
    names += [name for name in users.columns if name.startswith((user_steps.KNOWN, Event.PROFILE))]
    shown = {name.removeprefix(user_steps.KNOWN).removeprefix(Event.PROFILE): F.col(name) for name in names}
    return _Facts(users, Column.USER_KEY, {f"users.{name}": column for name, column in shown.items()})


def _items(kept: DataFrame, dataset: Dataset, cut: int, ties: list[str]) -> _Facts:
    first = F.min(Event.TIMESTAMP).alias(Column.FIRST_SEEN)
    items = kept.groupBy(Column.ITEM_ID).agg(first).withColumn(Column.ITEM_INDEX, F.col(Column.ITEM_ID))
    facts = item_steps.facts_at_cuts(kept, [cut], dataset.target_event_types)
    known = item_steps.snapshots(facts, items, None, ties=ties).where(Column.IN_TRAINING)
    names = (Column.TEXT, Column.PRICE, Column.POPULARITY, Column.KNOWN_AT, Column.FIRST_SEEN)
    return _Facts(known, Column.ITEM_INDEX, {f"items.{name}": F.col(name) for name in names})


def _events(kept: DataFrame, cut: int) -> _Facts:
    """One row a user: his events up to the cut, whatever their order."""
    known = kept.where(F.col(Event.TIMESTAMP) <= cut)
    returned = F.when(F.col(Event.RETURNED_AT) <= cut, F.col(Event.RETURNED_AT)).otherwise(0)
    item = F.ltrim(F.col(Event.ITEM_ID), F.lit(MARK))
    told = [Event.TIMESTAMP, Event.ANCHOR, Event.EVENT_TYPE, Event.VALUE, Event.QUANTITY, Event.UNIT_PRICE]
    told += [name for name in (Event.DWELL_S, Event.QUERY) if name in kept.columns]
    row = F.xxhash64(item, returned, Event.TEXT, Event.ORDER_ID, *told)
    return _Facts(
        known.groupBy(Event.USER_KEY).agg(F.bit_xor(row).alias("rows"), F.count(F.lit(1)).alias("number")),
        Event.USER_KEY,
        {EVENTS: F.struct("rows", "number")},
    )


def _compared(facts: list[_Facts]) -> FutureChanges:
    """Keys that lack a variant, or differ in it, by feature."""
    long = [_long(part) for part in facts]
    rows = long[0].unionByName(long[1]).unionByName(long[2])
    pairs = rows.groupBy("feature", "key").agg(
        F.count(F.lit(1)).alias("variants"), F.min("told").alias("least"), F.max("told").alias("most")
    )
    differs = (F.col("variants") != 2) | (F.col("least") != F.col("most"))
    counted = pairs.groupBy("feature").agg(F.count(F.lit(1)).alias("keys"), F.count_if(differs).alias("bad"))
    found = {row["feature"]: row for row in counted.collect()}
    compared = sum(row["keys"] for name, row in found.items() if name.endswith(f".{Column.FIRST_SEEN}"))
    return FutureChanges(
        changed={name: int(row["bad"]) for name, row in sorted(found.items()) if row["bad"]},
        compared=int(compared),
    )


def _long(facts: _Facts) -> DataFrame:
    entries = [
        F.struct(F.lit(name).alias("feature"), F.xxhash64(column).alias("told"))
        for name, column in facts.features.items()
    ]
    key = F.ltrim(F.col(facts.key), F.lit(MARK)).alias("key")
    return facts.frame.select(key, F.explode(F.array(*entries)).alias("entry")).select("key", "entry.*")
