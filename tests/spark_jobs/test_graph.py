"""A follow graph beside the log: user features as of each cut, and people who are taken out of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.tables import FeatureTables
from recsys.pseudonym import load_key, pseudonym
from recsys.schema import Column, InputError, Table, UserNumeric
from spark_jobs import job
from spark_jobs.erase import erase
from spark_jobs.settings import FollowGraph, JobSettings, Sensitive, SourceTable
from tests.spark_jobs import shop

# u3 follows nobody; "star" is in no log; after day 90, the test cut, more edges come
EDGES = [("u1", "u2", 10), ("u1", "star", 50), ("u2", "u1", 80), ("star", "u1", 82), ("u1", "u3", 100)]
LATER = [("u2", "u3", 95), ("u3", "u2", 96)]


def write_edges(path: Path, edges: list[tuple[str, str, float]]) -> Path:
    rows = [{"who": who, "whom": whom, "since": shop.at(day)} for who, whom, day in edges]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def settings(folder: Path, edges: list[tuple[str, str, float]] = EDGES, **changes: Any) -> JobSettings:
    graph = FollowGraph(
        source=SourceTable(path=str(write_edges(folder / "edges.parquet", edges))),
        user_id="who",
        other_id="whom",
        timestamp="since",
    )
    raw = shop.write(shop.regular_lines(), folder / "raw.parquet")
    told = shop.settings(raw, folder, **({"graph": graph} | changes))
    places = {f"{name}_dir": str(folder / name) for name in ("models", "outputs", "cache")}
    return dataclasses.replace(told, **places)


def features(version: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """By user and day of the cut."""
    names = {pseudonym(user, load_key()): user for user in ("u1", "u2", "u3", "late")}
    rows = pq.read_table(version / Table.USER_FEATURES).to_pylist()
    day = {cut: (cut - shop.seconds(0)) / shop.DAY for cut in {row[Column.VALID_FROM] for row in rows}}
    return {(names[row[Column.USER_KEY]], day[row[Column.VALID_FROM]]): row for row in rows}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graph")


@pytest.fixture(scope="module")
def version(spark: Any, folder: Path) -> Path:
    return job.build(settings(folder), spark)


def counts(row: dict[str, Any]) -> tuple[float, float]:
    return row[UserNumeric.NUM_FOLLOWING], row[UserNumeric.NUM_FOLLOWERS]


def test_a_user_is_described_by_the_edges_of_the_time(version: Path) -> None:
    at = features(version)
    assert counts(at["u1", 45]) == (1, 0)
    assert counts(at["u1", 75]) == (2, 0)
    assert counts(at["u1", 90]) == (2, 2)
    assert counts(at["u2", 90]) == (1, 1)
    assert counts(at["u3", 90]) == (0, 0)
    assert counts(at["u3", 119.75]) == (0, 1)
    assert counts(at["late", 119.75]) == (0, 0)
    metadata = json.loads((version / Table.METADATA).read_text())
    assert metadata["user_numeric"] == [*UserNumeric.ALL, *UserNumeric.GRAPH]
    assert str(version.parents[2] / "edges.parquet") in {source["path"] for source in metadata["sources"]}


def test_the_newest_fact_may_be_an_edge_and_lies_before_the_cut(version: Path) -> None:
    at = features(version)
    # u2 buys on day 85.5, u1 on day 84.5; the last edges before day 90 are of days 80 and 82
    assert at["u2", 90][Column.KNOWN_AT] == shop.seconds(85.5)
    assert all(row[Column.KNOWN_AT] <= row[Column.VALID_FROM] for row in at.values())


def test_edges_after_a_cut_change_nothing_at_it(spark: Any, version: Path, tmp_path: Path) -> None:
    other = features(job.build(settings(tmp_path, EDGES + LATER), spark))
    before = features(version)
    assert {key: row for key, row in other.items() if key[1] <= 90} == {
        key: row for key, row in before.items() if key[1] <= 90
    }
    assert counts(other["u3", 119.75]) != counts(before["u3", 119.75])


def test_the_activity_of_a_cut_table_has_the_counts_last(version: Path, tmp_path: Path) -> None:
    tables = FeatureTables(tables_dir=version, cache_dir=tmp_path)
    assert tables.at_cut(split="test").activity[:3, -2:].tolist() == [[2, 2], [1, 1], [0, 0]]


def test_a_column_of_the_graph_that_is_dropped_is_no_column(spark: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"graph.other_id: .*edges.parquet has no column 'whom'"):
        job.build(settings(tmp_path, sensitive=Sensitive(drop=["whom"])), spark)


def test_people_go_out_of_the_graph_at_both_ends(spark: Any, tmp_path: Path) -> None:
    told = settings(tmp_path)
    job.build(told, spark)
    done = erase(dataclasses.replace(told, job="erase", erase_raw=True), frozenset({"u1"}), spark)
    assert done.rows["raw files"] == sum(line["user"] == "u1" for line in shop.regular_lines()) + len(EDGES)
    assert pq.read_table(tmp_path / "edges.parquet").num_rows == 0
    write_edges(tmp_path / "edges.parquet", EDGES)  # a copy that still holds them comes back
    again = features(job.build(told, spark))
    assert counts(again["u2", 90]) == (0, 0)
    assert not [key for key in again if key[0] == "u1"]


def test_what_is_left_unerased_is_said(spark: Any, tmp_path: Path) -> None:
    told = settings(tmp_path)
    job.build(told, spark)
    done = erase(dataclasses.replace(told, job="erase"), frozenset({"u1"}), spark)
    assert str(tmp_path / "edges.parquet") in done.left


def test_a_graph_whose_ends_are_expressions_is_not_rewritten(spark: Any, tmp_path: Path) -> None:
    told = settings(tmp_path)
    graph = dataclasses.replace(told.dataset.graph, other_id="upper(whom)")  # type: ignore[type-var]
    told = dataclasses.replace(told, dataset=dataclasses.replace(told.dataset, graph=graph))
    with pytest.raises(InputError, match=r"edges.parquet has no plain column 'upper\(whom\)'"):
        erase(dataclasses.replace(told, job="erase", erase_raw=True), frozenset({"u1"}), spark)
