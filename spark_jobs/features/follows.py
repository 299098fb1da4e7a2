"""How many a user follows, and by how many they are followed, as known at each cut."""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.schema import Column, UserNumeric
from spark_jobs.columns import Edge
from spark_jobs.edges import turned
from spark_jobs.session import few_rows

LAST_EDGE = "last_edge_at"
NUM_EDGES = {
    UserNumeric.NUM_FOLLOWING: True,
    UserNumeric.NUM_FOLLOWERS: False,
}  # whether seen from the follower


def follows_at_cuts(edges: DataFrame, cuts: Iterable[int]) -> DataFrame:
    """(user_key, valid_from) with both counts and when the newest edge began. `edges`: from `follow_edges`.

    Whoever has no edge by a cut has no row there.
    """
    rows = [(cut,) for cut in sorted(set(cuts))]
    frame = F.broadcast(few_rows(edges.sparkSession, rows, f"{Column.VALID_FROM} long"))
    ends = [
        (edges if follows else turned(edges))
        .groupBy(Edge.USER_KEY, Edge.FOLLOWED_AT)
        .agg(*[F.count_if(F.lit(each == follows)).alias(name) for name, each in NUM_EDGES.items()])
        for follows in NUM_EDGES.values()
    ]
    known = F.col(Edge.FOLLOWED_AT) <= F.col(Column.VALID_FROM)
    return (
        ends[0]
        .unionByName(ends[1])
        .crossJoin(frame)
        .where(known)
        .groupBy(Edge.USER_KEY, Column.VALID_FROM)
        .agg(
            *[F.sum(name).alias(name) for name in NUM_EDGES],
            F.max(Edge.FOLLOWED_AT).alias(LAST_EDGE),
        )
    )
