"""Who follows whom: the raw table of a graph -> edges between pseudonyms."""

from __future__ import annotations

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.pseudonym import Key
from recsys.schema import InputError
from spark_jobs.columns import Edge
from spark_jobs.expressions import seconds_column, text_column
from spark_jobs.settings import TYPED_FORMATS, FollowGraph
from spark_jobs.sources import looked_at_once
from spark_jobs.steps.clean import LATEST_SECOND
from spark_jobs.steps.pseudonymise import hmac_sha256, without_erased

ALWAYS = 0  # when an edge without a date began


def follow_edges(raw: DataFrame, graph: FollowGraph, key: Key, *, erased: frozenset[str]) -> DataFrame:
    """(user_key, other_key, followed_at): each edge once, from its first date on, none of erased people.

    Rows without one of both ids, and who follows themselves, are left out. InputError for edges without a
    date where the graph has dates.
    """
    path, loose = graph.source.path, graph.source.format not in TYPED_FORMATS

    def pseudonym(name: str, expression: str) -> SparkColumn:
        return hmac_sha256(text_column(raw, expression, setting=f"graph.{name}", path=path), key.secret)

    since = F.lit(ALWAYS).cast("long")
    if graph.timestamp is not None:
        since = seconds_column(raw, graph.timestamp, setting="graph.timestamp", path=path, loose=loose)
    edges = raw.select(
        pseudonym("user_id", graph.user_id).alias(Edge.USER_KEY),
        pseudonym("other_id", graph.other_id).alias(Edge.OTHER_KEY),
        since.alias(Edge.FOLLOWED_AT),
    ).where(F.col(Edge.USER_KEY) != F.col(Edge.OTHER_KEY))
    edges = looked_at_once(edges, graph.source)
    if graph.timestamp is not None:
        _check_dated(edges, path)
    once = edges.groupBy(Edge.USER_KEY, Edge.OTHER_KEY).agg(F.min(Edge.FOLLOWED_AT).alias(Edge.FOLLOWED_AT))
    return turned(without_erased(turned(without_erased(once, erased)), erased))


def turned(edges: DataFrame) -> DataFrame:
    """Each edge from its other end."""
    return edges.select(
        F.col(Edge.OTHER_KEY).alias(Edge.USER_KEY),
        F.col(Edge.USER_KEY).alias(Edge.OTHER_KEY),
        Edge.FOLLOWED_AT,
    )


def _check_dated(edges: DataFrame, path: str) -> None:
    at = F.col(Edge.FOLLOWED_AT)
    undated = edges.where(at.isNull() | (at < 1) | (at >= LATEST_SECOND)).count()
    if undated:
        raise InputError(
            f"graph.timestamp: {undated:,} edges of {path} have no date; mend them, or leave graph.timestamp"
            " out, and every edge is taken to be known from the beginning"
        )
