"""What is known of each item at each cut. Later facts never change an earlier cut's row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.schema import PAD, SECONDS_PER_DAY, Column
from spark_jobs.columns import Event
from spark_jobs.features.vocabulary import (
    PriorFit,
    Vocabularies,
    Vocabulary,
    category_words,
    count_values,
    numbered,
    vocabulary_frame,
    words_of,
)
from spark_jobs.settings import FeatureSettings
from spark_jobs.steps.order import stable_key

POPULARITY_DAYS = 30
STABLE_DECIMALS = 12  # the order in which Spark sums shows in the last digits only
COUNTED_WORDS = 20_000  # how many of the most common words are looked at for tokens and categories
CATEGORY, PRICE_BAND, LOG_PRICE = "category", "price_band", "log_price"
FIELD, TOKENS = "field__", "tokens__"  # prefixes of columns from the item table


@dataclass(frozen=True, kw_only=True)
class ItemEncoding:
    """All that was fitted on training time: published in the metadata, frozen for every cut."""

    vocabularies: Vocabularies
    price_thresholds: list[float]
    log_price_mean: float
    log_price_std: float
    has_price: bool
    has_price_band: bool
    has_log_price: bool

    @property
    def fields(self) -> list[dict[str, str | int]]:
        """Name and size of each categorical field, in the order of the `categorical` lists."""
        sizes = {CATEGORY: len(self.vocabularies.category)} if self.vocabularies.category else {}
        sizes |= {name: len(values) for name, values in self.vocabularies.fields.items()}
        if self.has_price_band:
            sizes[PRICE_BAND] = len(self.price_thresholds) + 1
        return [{"name": name, "size": size} for name, size in sizes.items()]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Events, and by cut what `known` takes of them: those before it, or in the training prefix; `recent`:
    what counts for popularity then. One row an event, however many cuts there are.
    """

    events: DataFrame
    known: Mapping[int, SparkColumn]
    recent: Mapping[int, SparkColumn]


def facts_at_cuts(events: DataFrame, cuts: Iterable[int], targets: Sequence[str]) -> Facts:
    """Known at a cut is what lies before it; recent are target events within the popularity window."""
    timestamp, is_target = F.col(Event.TIMESTAMP), F.col(Event.EVENT_TYPE).isin(list(targets))
    known = {cut: timestamp <= cut for cut in sorted(set(cuts))}
    window = POPULARITY_DAYS * SECONDS_PER_DAY
    recent = {cut: is_known & (timestamp > cut - window) & is_target for cut, is_known in known.items()}
    return Facts(events=events, known=known, recent=recent)


def snapshots(facts: Facts, items: DataFrame, table: DataFrame | None, *, ties: Sequence[str]) -> DataFrame:
    """(valid_from, item): text, price, popularity, in_training, known_at, the item table's columns.

    An item not yet seen at the cut shows what was known at its first sight. `items`: item_index, item_id,
    first_seen; `table`: the undated item table, by item_id.
    """
    timestamp, key = F.col(Event.TIMESTAMP), Column.ITEM_ID
    place = F.struct(*stable_key([name for name in ties if name != Event.ITEM_ID]))
    has_price, has_text = F.col(Event.UNIT_PRICE) > 0, F.col(Event.TEXT).isNotNull()

    def latest_text(when: SparkColumn) -> SparkColumn:
        return F.max_by(F.col(Event.TEXT), F.when(when & has_text, place))

    def median_price(when: SparkColumn) -> SparkColumn:
        return F.median(F.when(when & has_price, F.col(Event.UNIT_PRICE)))

    counts = {
        cut: F.struct(
            F.max(is_known).alias(Column.IN_TRAINING),
            F.count_if(facts.recent[cut]).alias(Column.POPULARITY),
            F.max(F.when(is_known, timestamp)).alias("known_last"),
        )
        for cut, is_known in facts.known.items()
    }
    counted = facts.events.groupBy(key).agg(*[n.alias(f"counted_{cut}") for cut, n in counts.items()])
    # Medians and texts keep rows in memory or sort them, so only rows that have one come to them.
    telling = facts.events.where(has_price | has_text)
    telling = telling.join(items.select(key, Column.FIRST_SEEN), on=key, how="inner")
    told = {
        f"told_{cut}": F.struct(
            latest_text(when).alias("text_known"), median_price(when).alias("price_known")
        )
        for cut, when in facts.known.items()
    }
    is_first = timestamp <= F.col(Column.FIRST_SEEN)
    first = {"text_first": latest_text(is_first), "price_first": median_price(is_first)}
    telling = telling.groupBy(key).agg(*[column.alias(name) for name, column in (told | first).items()])
    cuts = [
        F.struct(F.lit(cut).cast("long").alias(Column.VALID_FROM), f"counted_{cut}.*", f"told_{cut}.*")
        for cut in counts
    ]
    every = items.join(counted, on=key, how="left").join(telling, on=key, how="left")
    every = every.select(*items.columns, *first, F.inline(F.array(*cuts)))
    in_training = F.coalesce(Column.IN_TRAINING, F.lit(False))
    extra = [] if table is None else [name for name in table.columns if name != Column.ITEM_ID]
    if table is not None:
        every = every.join(table, on=Column.ITEM_ID, how="left")
    table_text = F.col("table_text") if "table_text" in extra else F.lit(None).cast("string")
    event_text = F.when(in_training, F.col("text_known")).otherwise(F.col("text_first"))
    return every.select(
        Column.ITEM_INDEX,
        Column.ITEM_ID,
        Column.FIRST_SEEN,
        Column.VALID_FROM,
        F.coalesce("known_last", Column.FIRST_SEEN).alias(Column.KNOWN_AT),
        F.coalesce(event_text, table_text, F.lit("")).alias(Column.TEXT),
        F.when(in_training, F.col("price_known")).otherwise(F.col("price_first")).alias(Column.PRICE),
        F.coalesce(Column.POPULARITY, F.lit(0)).cast("long").alias(Column.POPULARITY),
        in_training.alias(Column.IN_TRAINING),
        *[name for name in extra if name != "table_text"],
    )


def fit_encoding(
    training: DataFrame, settings: FeatureSettings, *, has_price: bool, prior: PriorFit | None = None
) -> ItemEncoding:
    """Vocabularies, price bands and scaler from the `in_training` rows at the end of training time.

    What `prior` had fitted stays; its price bands and scaler are taken as they are.
    """
    prior = prior or PriorFit()
    words = "words"
    fields = [name.removeprefix(FIELD) for name in training.columns if name.startswith(FIELD)]
    lists = {words: _all_tokens(training)}
    lists |= {name: F.array(F.col(FIELD + name)) for name in fields}
    counted = count_values(training, lists, keep=max(COUNTED_WORDS, settings.max_field_size))
    common = [word for word, rows in counted.get(words, []) if rows >= settings.min_token_items]
    vocabularies = Vocabularies(
        tokens=numbered(common, prior=prior.tokens, size=settings.max_tokens),
        category=numbered(
            category_words(counted.get(words, []), size=settings.category_words),
            prior=prior.category,
            size=settings.category_words,
        ),
        fields={
            name: numbered(
                (value for value, _ in counted.get(name, [])),
                prior=prior.item_fields.get(name, ()),
                size=settings.max_field_size,
            )
            for name in fields
        },
    )
    has_price = has_price and Column.PRICE not in settings.drop
    has_band, has_log = (has_price and name not in settings.drop for name in (PRICE_BAND, LOG_PRICE))
    thresholds: list[float] = []
    mean, std = 0.0, 1.0
    if (has_band and prior.price_band_thresholds is None) or (has_log and prior.log_price is None):
        thresholds, mean, std = _fit_prices(training, settings.price_bands)
    if prior.price_band_thresholds is not None:
        thresholds = list(prior.price_band_thresholds)
    if prior.log_price is not None:
        mean, std = prior.log_price["mean"], prior.log_price["std"]
    return ItemEncoding(
        vocabularies=vocabularies,
        price_thresholds=thresholds if has_band else [],
        log_price_mean=mean,
        log_price_std=std,
        has_price=has_price,
        has_price_band=has_band,
        has_log_price=has_log,
    )


def encode(snapshot: DataFrame, encoding: ItemEncoding) -> DataFrame:
    """The published item_features rows."""
    fitted = encoding.vocabularies
    with_words = _encode_words(snapshot, fitted)
    for name, vocabulary in fitted.fields.items():
        with_words = _encode_field(with_words, name, vocabulary)
    indices = [F.col(CATEGORY)] if fitted.category else []
    indices += [F.col(f"index__{name}") for name in fitted.fields]
    numeric = []
    price = F.col(Column.PRICE) if encoding.has_price else F.lit(None).cast("double")
    if encoding.has_price_band:
        above = [F.when(price > threshold, 1).otherwise(0) for threshold in encoding.price_thresholds]
        band = sum(above, F.lit(1))
        indices.append(F.when(price.isNull(), PAD).otherwise(band))
    if encoding.has_log_price:
        scaled = (F.log(price) - encoding.log_price_mean) / encoding.log_price_std
        numeric.append(F.coalesce(scaled, F.lit(0.0)))
    return with_words.select(
        F.col(Column.ITEM_INDEX).cast("int").alias(Column.ITEM_INDEX),
        Column.ITEM_ID,
        Column.FIRST_SEEN,
        Column.VALID_FROM,
        Column.KNOWN_AT,
        Column.TEXT,
        F.array(*indices).cast("array<int>").alias(Column.CATEGORICAL),
        F.array(*numeric).cast("array<float>").alias(Column.NUMERIC),
        Column.TOKENS,
        price.alias(Column.PRICE),
        Column.POPULARITY,
        Column.IN_TRAINING,
    )


def _all_tokens(frame: DataFrame) -> SparkColumn:
    """Words of the text, then the item table's own tokens."""
    extra = [F.coalesce(F.col(name), F.array()) for name in frame.columns if name.startswith(TOKENS)]
    return F.concat(words_of(F.col(Column.TEXT)), *extra)


def _encode_words(snapshot: DataFrame, fitted: Vocabularies) -> DataFrame:
    """Adds `tokens` (known words in order) and `category` (the most common category word, else 0)."""
    spark = snapshot.sparkSession
    key = [Column.ITEM_INDEX, Column.VALID_FROM]
    tokens = vocabulary_frame(spark, fitted.tokens, value="word", index="token")
    categories = vocabulary_frame(spark, fitted.category, value="word", index=CATEGORY)
    long = snapshot.select(*key, F.posexplode(_all_tokens(snapshot)).alias("place", "word"))
    found = long.join(tokens, on="word", how="left").join(categories, on="word", how="left")
    entry = F.when(F.col("token").isNotNull(), F.struct("place", "token"))
    grouped = found.groupBy(*key).agg(
        F.array_sort(F.collect_list(entry)).alias("entries"), F.min(CATEGORY).alias(CATEGORY)
    )
    joined = snapshot.join(grouped, on=key, how="left")
    return joined.withColumns(
        {
            Column.TOKENS: F.coalesce(F.col("entries.token"), F.array().cast("array<int>")),
            CATEGORY: F.coalesce(CATEGORY, F.lit(PAD)),
        }
    )


def _encode_field(frame: DataFrame, name: str, vocabulary: Vocabulary) -> DataFrame:
    index = f"index__{name}"
    values = vocabulary_frame(frame.sparkSession, vocabulary, value=FIELD + name, index=index)
    return frame.join(values, on=FIELD + name, how="left").withColumn(index, F.coalesce(index, F.lit(PAD)))


def _fit_prices(training: DataFrame, bands: int) -> tuple[list[float], float, float]:
    """Band thresholds (inner quantiles) and mean and standard deviation of log price."""
    shares = [step / bands for step in range(1, bands)]
    log_price = F.log(F.col(Column.PRICE))
    row = training.agg(
        F.percentile(F.col(Column.PRICE), F.array(*[F.lit(share) for share in shares])).alias("thresholds"),
        F.avg(log_price).alias("mean"),
        F.var_pop(log_price).alias("variance"),
    ).first()
    if row is None or row["mean"] is None:
        return [], 0.0, 1.0
    mean, std = (round(value, STABLE_DECIMALS) for value in (row["mean"], sqrt(row["variance"])))
    return [float(x) for x in row["thresholds"]], mean, std or 1.0
