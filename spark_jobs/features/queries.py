"""Words of searches, by the vocabulary of the items' texts: a search lies near the items that it names."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import Event
from spark_jobs.features.vocabulary import Vocabulary, vocabulary_frame, words_of

MOST_WORDS = 8


def with_query_words(events: DataFrame, tokens: Vocabulary) -> DataFrame:
    """Adds `query_words`: the first MOST_WORDS known words of the query in order, empty where there are none.

    Words that no item of training time has are left out: what someone typed once may name a person.
    """
    none = F.array().cast("array<int>")
    searches = events.where(F.col(Event.QUERY).isNotNull())
    others = events.where(F.col(Event.QUERY).isNull()).withColumn(Event.QUERY_WORDS, none)
    known = vocabulary_frame(events.sparkSession, tokens, value="word", index="token")
    words = searches.select(Event.QUERY).distinct()
    words = words.select(Event.QUERY, F.posexplode(words_of(F.col(Event.QUERY))).alias("place", "word"))
    entries = F.array_sort(F.collect_list(F.struct("place", "token")))
    found = words.join(known, on="word", how="inner").groupBy(Event.QUERY).agg(entries.alias("entries"))
    taken = F.coalesce(F.slice(F.col("entries.token"), 1, MOST_WORDS), none)
    told = searches.join(found, on=Event.QUERY, how="left").withColumn(Event.QUERY_WORDS, taken)
    return told.drop("entries").select(*others.columns).unionByName(others)
