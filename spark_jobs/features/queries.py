"""Words of searches, by the vocabulary of the items' texts: a search lies near the items that it names."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import Event
from spark_jobs.features.vocabulary import Vocabulary, vocabulary_frame, words_of
from spark_jobs.lookup import look_up
from spark_jobs.session import pin

MOST_WORDS = 8


def with_query_words(events: DataFrame, tokens: Vocabulary) -> DataFrame:
    """Adds `query_words`: the first MOST_WORDS known words of the query in order, empty where there are none.

    Words that no item of training time has are left out: what someone typed once may name a person.
    """
    none = F.array().cast("array<int>")
    searches = events.where(F.col(Event.QUERY).isNotNull())
    known = vocabulary_frame(events.sparkSession, tokens, value="word", index="token")
    words = searches.select(Event.QUERY).distinct()
    words = words.select(Event.QUERY, F.posexplode(words_of(F.col(Event.QUERY))).alias("place", "word"))
    entries = F.array_sort(F.collect_list(F.struct("place", "token")))
    found = words.join(known, on="word", how="inner").groupBy(Event.QUERY).agg(entries.alias("entries"))
    taken = F.slice(F.col("entries.token"), 1, MOST_WORDS)
    told = look_up(events, pin(found.select(Event.QUERY, taken.alias(Event.QUERY_WORDS))), by=Event.QUERY)
    return told.withColumn(Event.QUERY_WORDS, F.coalesce(Event.QUERY_WORDS, none))
