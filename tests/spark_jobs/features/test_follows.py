"""Edges as of a cut, counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recsys.pseudonym import load_key, pseudonym
from recsys.schema import Column, InputError, UserNumeric
from spark_jobs.columns import Edge
from spark_jobs.edges import follow_edges
from spark_jobs.features.follows import LAST_EDGE, follows_at_cuts
from spark_jobs.settings import FollowGraph, SourceTable
from tests.spark_jobs import shop

DATED = FollowGraph(source=SourceTable(path="edges"), user_id="who", other_id="whom", timestamp="since")
UNDATED = FollowGraph(source=SourceTable(path="edges"), user_id="who", other_id="whom")
RAW = "who string, whom string, since timestamp"


def key_of(user: str) -> str:
    return pseudonym(user, load_key())


def edges(spark: Any, rows: list[tuple[Any, ...]], graph: FollowGraph, *erased: str) -> Any:
    raw = spark.createDataFrame(rows, RAW)
    return follow_edges(raw, graph, load_key(), erased=frozenset(map(key_of, erased)))


def test_edges_count_from_their_first_day_on_at_both_ends(spark: Any) -> None:
    told = [("a", "b", 5), ("a", "c", 20), ("a", "b", 30), ("b", "a", 10), ("d", "d", 1), (None, "a", 1)]
    rows = [(who, whom, shop.at(day)) for who, whom, day in told]
    cuts = [shop.seconds(day) for day in (4, 10, 40, 40)]
    found = {
        (row[Edge.USER_KEY], (row[Column.VALID_FROM] - shop.seconds(0)) // shop.DAY): (
            row[UserNumeric.NUM_FOLLOWING],
            row[UserNumeric.NUM_FOLLOWERS],
            (row[LAST_EDGE] - shop.seconds(0)) // shop.DAY,
        )
        for row in follows_at_cuts(edges(spark, rows, DATED), cuts).collect()
    }
    assert found == {
        (key_of("a"), 10): (1, 1, 10),
        (key_of("b"), 10): (1, 1, 10),
        (key_of("a"), 40): (2, 1, 20),
        (key_of("b"), 40): (1, 1, 10),
        (key_of("c"), 40): (0, 1, 20),
    }


def test_edges_of_erased_people_are_gone_at_either_end(spark: Any) -> None:
    rows = [(who, whom, shop.at(1)) for who, whom in (("a", "b"), ("b", "c"), ("c", "a"))]
    left = edges(spark, rows, DATED, "b").collect()
    assert [(row[Edge.USER_KEY], row[Edge.OTHER_KEY]) for row in left] == [(key_of("c"), key_of("a"))]


def test_a_graph_with_dates_has_no_edge_without_one(spark: Any) -> None:
    rows = [("a", "b", shop.at(1)), ("a", "c", None)]
    with pytest.raises(InputError, match=r"1 edges of edges have no date.*leave graph.timestamp out"):
        edges(spark, rows, DATED)
    assert {row[Edge.FOLLOWED_AT] for row in edges(spark, rows, UNDATED).collect()} == {0}


def test_a_graph_needs_cuts_in_time(tmp_path: Path) -> None:
    split = shop.dataset(tmp_path / "raw.parquet").split
    assert shop.dataset(tmp_path / "raw.parquet", graph=DATED).split == split
    by_order = type(split)(kind="leave_one_out")
    with pytest.raises(InputError, match="graph is counted as of cuts in time"):
        shop.dataset(tmp_path / "raw.parquet", graph=DATED, split=by_order)
