"""Words and categories -> indices from 1, fitted on training time; an index never changes its meaning.

0 means unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from spark_jobs.session import few_rows

# Words that say nothing about the kind of an item: function words, colours, sizes, counts.
_NO_CATEGORY = """
a an and at by d for from in is it no of on or s set sets pack the to w with x
red pink blue green white black ivory cream yellow orange purple grey gray brown gold silver
light dark colour color coloured asst assorted small large medium mini big tall
one two three four five six seven eight nine ten twelve pc pcs piece pieces design
"""
NO_CATEGORY = frozenset(_NO_CATEGORY.split())
SHORTEST_CATEGORY_WORD = 3

Vocabulary = dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Vocabularies:
    """`tokens`: words; `category`: some of those words; `fields`: values by field name."""

    tokens: Vocabulary
    category: Vocabulary
    fields: dict[str, Vocabulary]


@dataclass(frozen=True, kw_only=True)
class PriorFit:
    """What the last version had fitted: values stay at their indices, new ones come after them."""

    tokens: Sequence[str] = ()
    category: Sequence[str] = ()
    item_fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    profile_fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    price_band_thresholds: Sequence[float] | None = None  # None: fitted anew
    log_price: Mapping[str, float] | None = None  # mean and std; None: fitted anew


def words_of(text: SparkColumn) -> SparkColumn:
    """Lower-case runs of letters and digits, in order; null text gives an empty array."""
    words = F.split(F.lower(F.coalesce(text, F.lit(""))), r"[^\p{L}\p{N}]+")
    return F.filter(words, lambda word: word != "")


def count_values(
    frame: DataFrame, lists: Mapping[str, SparkColumn], *, keep: int
) -> dict[str, list[tuple[str, int]]]:
    """For each named array column the `keep` most common values with the number of rows that have them.

    One pass over `frame`; ties go by the value itself.
    """
    stacked = F.concat(*[_named(name, column) for name, column in lists.items()])
    counts = (
        frame.select(F.explode(stacked).alias("entry"))
        .where(F.col("entry.value").isNotNull())
        .groupBy("entry.name", "entry.value")
        .agg(F.count(F.lit(1)).alias("rows"))
    )
    by_count = Window.partitionBy("name").orderBy(F.col("rows").desc(), F.col("value"))
    best = counts.withColumn("place", F.row_number().over(by_count)).where(F.col("place") <= keep)
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for row in best.orderBy("name", "place").collect():
        found[row["name"]].append((row["value"], row["rows"]))
    return found


def _named(name: str, values: SparkColumn) -> SparkColumn:
    """Array of (name, value), each value once."""

    def entry(value: SparkColumn) -> SparkColumn:
        return F.struct(F.lit(name).alias("name"), value.alias("value"))

    return F.transform(F.array_distinct(values), entry)


def numbered(values: Iterable[str], *, prior: Sequence[str] = (), size: int | None = None) -> Vocabulary:
    """Value -> index from 1: those of `prior` keep theirs, new ones follow as far as `size` goes."""
    entries = list(dict.fromkeys([*prior, *values]))
    limit = None if size is None else max(size, len(prior))
    return {value: index for index, value in enumerate(entries[:limit], start=1)}


def category_words(counted: Iterable[tuple[str, int]], *, size: int) -> list[str]:
    """The most common words that can name a kind of item."""
    fit = [
        word
        for word, _ in counted
        if len(word) >= SHORTEST_CATEGORY_WORD and word.isalpha() and word not in NO_CATEGORY
    ]
    return fit[:size]


def vocabulary_frame(spark: SparkSession, vocabulary: Vocabulary, *, value: str, index: str) -> DataFrame:
    """A small table to join with."""
    rows = list(vocabulary.items())
    return F.broadcast(few_rows(spark, rows, f"`{value}` string, `{index}` int"))
