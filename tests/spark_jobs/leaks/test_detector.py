"""The gate stops a build for a column made of the future, names it, and passes once it is dropped."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.schema import Table
from spark_jobs import job
from spark_jobs.gate import QualityError, Thresholds
from spark_jobs.leaks.detector import find_leaks
from spark_jobs.leaks.findings import Feature, Findings, checks_of, remedies
from spark_jobs.leaks.future import FutureChanges
from spark_jobs.quality import FAILED_PAGE
from spark_jobs.settings import FollowGraph, ItemTable, JobSettings, SourceTable, UserTable
from tests.spark_jobs import shop

BOUNDS = {"max_future_changes": 0, "max_feature_auc": 0.6, "max_chance_gap": 0}
NUM_USERS, NUM_ITEMS = 160, 120


def raw_files(folder: Path) -> None:
    """A log of 120 days, and tables exported at its end, with a column each that sums up what is in it."""
    rng = random.Random(5)
    lines = []
    for user in range(NUM_USERS):
        for order in range(rng.randint(3, 12)):
            item = f"I{rng.randrange(NUM_ITEMS)}"
            lines.append(shop.line(f"u{user}", item, rng.uniform(0, 74), invoice=f"{user}-{order}"))
        for order in range(rng.choice([0, 0, 1, 4])):
            item = f"I{rng.randrange(NUM_ITEMS // 2)}"
            lines.append(shop.line(f"u{user}", item, rng.uniform(76, 89), invoice=f"{user}-late-{order}"))
    lines += [shop.line("u0", "I0", day, invoice=f"day{day}") for day in range(0, 121, 10)]
    shop.write(lines, folder / "raw.parquet")
    bought = Counter(line["user"] for line in lines)
    last = {line["user"]: max(o["moment"] for o in lines if o["user"] == line["user"]) for line in lines}
    users = [
        {"user": user, "total": bought[user], "last": str(last[user].date()), "eyes": rng.choice("bgw")}
        for user in bought
    ]
    sold = Counter(line["item"] for line in lines if line["moment"] > shop.at(75))
    items = [
        {"item": f"I{item}", "sold": "top" if sold[f"I{item}"] else "slow", "colour": rng.choice("rgb")}
        for item in range(NUM_ITEMS)
    ]
    for name, rows in (("users", users), ("items", items)):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


def settings(folder: Path, *drop: str) -> JobSettings:
    users = SourceTable(path=str(folder / "users.parquet"))
    items = SourceTable(path=str(folder / "items.parquet"))
    plain = shop.settings(
        folder / "raw.parquet",
        folder,
        quality=BOUNDS,
        users=UserTable(
            source=users, user_id="user", profile={"total": "total", "last_seen": "last", "eyes": "eyes"}
        ),
        items=ItemTable(source=items, item_id="item", fields={"seller": "sold", "colour": "colour"}),
    )
    features = dataclasses.replace(plain.dataset.features, drop=list(drop))
    return dataclasses.replace(plain, dataset=dataclasses.replace(plain.dataset, features=features))


@pytest.mark.slow
def test_a_column_made_of_the_future_stops_the_build_until_it_is_dropped(spark: Any, tmp_path: Path) -> None:
    raw_files(tmp_path)
    with pytest.raises(
        QualityError,
        match=r"max_feature_auc: .* maximum 0\.6.*total, last_seen, seller tells what came after the"
        r" validation cut: give it a date .*features\.drop: \[total, last_seen, seller\]; see .*\.html",
    ):
        job.build(settings(tmp_path), spark)
    page = tmp_path / "features" / "shop" / FAILED_PAGE
    assert page.read_text().count(">leak</td>") == 3

    version = job.build(settings(tmp_path, "total", "last_seen", "seller"), spark)
    assert not page.exists()
    quality = json.loads((version / Table.QUALITY).read_text())
    assert [check["name"] for check in quality["checks"]] == list(BOUNDS)
    assert quality["leaks"]["future"]["changed"] == {}
    found = {feature["name"]: feature for feature in quality["leaks"]["features"]}
    assert {"country", "eyes", "colour", "spend", "popularity"} <= found.keys()
    assert not {"total", "last_seen", "seller"} & found.keys()
    assert "Does a feature tell the future?" in (version / Table.QUALITY_PAGE).read_text()
    metadata = json.loads((version / Table.METADATA).read_text())
    assert [field["name"] for field in metadata["item_fields"]] == ["category", "colour", "price_band"]
    assert [field["name"] for field in metadata["profile_fields"]] == ["country", "eyes"]
    words = json.loads((version / Table.VOCABULARIES).read_text())
    assert (list(words["profile_fields"]), list(words["item_fields"])) == (["country", "eyes"], ["colour"])


@pytest.mark.slow
def test_dropped_text_and_price_leave_nothing(spark: Any, tmp_path: Path) -> None:
    shop.write(shop.regular_lines(), tmp_path / "raw.parquet")
    plain = shop.settings(tmp_path / "raw.parquet", tmp_path)
    job.build(plain, spark)
    features = dataclasses.replace(plain.dataset.features, drop=["text", "price", "country"])
    version = job.build(
        dataclasses.replace(plain, dataset=dataclasses.replace(plain.dataset, features=features)), spark
    )
    metadata = json.loads((version / Table.METADATA).read_text())
    assert metadata["item_fields"] == metadata["profile_fields"] == metadata["item_numeric"] == []
    assert (metadata["num_tokens"], metadata["scalers"]) == (0, {})
    words = json.loads((version / Table.VOCABULARIES).read_text())
    assert not any(words.values())
    items = pq.read_table(version / Table.ITEM_FEATURES).to_pylist()
    assert {(row["text"], row["price"]) for row in items} == {("", None)}
    assert not any(row["tokens"] or row["categorical"] or row["numeric"] for row in items)


def test_without_a_cut_or_bounds_nothing_is_looked_at() -> None:
    unused: dict[str, Any] = dict.fromkeys(("key", "tables", "indexed", "user_table"))
    none: Any = None
    shared = {"cuts": None, "measured": {}, **unused}
    (note,) = find_leaks(none, none, Thresholds(**BOUNDS), none, **shared).notes
    assert note.startswith("leave_one_out has no cut in time")
    assert find_leaks(none, none, Thresholds(), none, **shared) == Findings()


def test_checks_and_remedies_of_what_was_found() -> None:
    def feature(name: str, beyond: float, verdict: str, *, low: float = 0.4, undated: bool = True) -> Feature:
        return Feature(
            name=name,
            of="users",
            rows=200,
            undated=undated,
            beyond=beyond,
            alone=0.9,
            low=low,
            high=0.6,
            verdict=verdict,
        )

    future = FutureChanges(changed={"users.total": 3, "events": 2}, compared=9)
    own = feature("spend", 0.99, "of the past itself", undated=False)
    bounds = Thresholds(**BOUNDS)
    found = Findings(
        features=[feature("tier", 0.9, "leak"), feature("age", 0.55, "at chance"), own], future=future
    )
    assert [(check.name, check.value, check.passed) for check in checks_of(found, bounds)] == [
        ("max_future_changes", 5, False),
        ("max_feature_auc", pytest.approx(0.8), False),
        ("max_chance_gap", 0, True),
    ]
    told = remedies(found, ["max_future_changes", "max_feature_auc"], droppable=["total", "tier", "price"])
    assert "changes users.total, events at it" in told
    assert "or leave out what may be with features.drop: [total] (events cannot be);" in told
    assert "features.drop: [tier]" in told
    off = Findings(features=[feature("age", 0.55, "at chance", low=0.52)])
    assert [(check.value, check.passed) for check in checks_of(off, bounds)] == [
        (0.5, True),
        (pytest.approx(0.02), False),
    ]
    assert "a fault of this check itself" in remedies(off, ["max_chance_gap"], droppable=[])
    assert checks_of(found, Thresholds()) == []


def test_a_remedy_names_what_can_be_dropped_only() -> None:
    def told(*changed: str) -> str:
        future = FutureChanges(changed=dict.fromkeys(changed, 1), compared=9)
        droppable = ["text", "price", "country"]
        return remedies(Findings(future=future), ["max_future_changes"], droppable=droppable)

    assert told("users.country", "items.text").endswith("with features.drop: [country, text]")
    unmendable = told("events", "users.spend", "items.popularity")
    assert unmendable.endswith("other rows (events, users.spend, items.popularity cannot be dropped)")


def graph_of_today(folder: Path, *, timestamp: str | None) -> JobSettings:
    """Each purchase after the cut brings a follower, who is in the graph as exported at the end."""
    rng = random.Random(3)
    lines, edges = [], []
    for user in range(240):
        name, late = f"u{user:03}", rng.randrange(12)
        days = [rng.uniform(0, 75) for _ in range(4)] + [rng.uniform(75.1, 89) for _ in range(late)]
        lines += [shop.line(name, "ABCD"[user % 4], day, invoice=f"{name}-{day:.3f}") for day in days]
        edges += [{"who": f"x{fan}", "whom": name, "since": shop.at(day)} for fan, day in enumerate(days[4:])]
    lines += [shop.line("u000", "A", day, invoice=f"day{day}") for day in range(90, 121, 10)]
    pq.write_table(pa.Table.from_pylist(edges), folder / "edges.parquet")
    graph = FollowGraph(
        source=SourceTable(path=str(folder / "edges.parquet")),
        user_id="who",
        other_id="whom",
        timestamp=timestamp,
    )
    raw = shop.write(lines, folder / "raw.parquet")
    bounds = {"max_feature_auc": 0.6}
    return shop.settings(raw, folder, quality=bounds, graph=graph)


def test_a_follow_graph_without_dates_is_asked_and_one_with_them_is_the_past(
    spark: Any, tmp_path: Path
) -> None:
    remedy = "num_followers tells .*: name in graph.timestamp when each edge began, or leave `graph` out; see"
    with pytest.raises(QualityError, match=remedy):
        job.build(graph_of_today(tmp_path, timestamp=None), spark)

    version = job.build(graph_of_today(tmp_path, timestamp="since"), spark)
    features = json.loads((version / Table.QUALITY).read_text())["leaks"]["features"]
    verdicts = {feature["name"]: feature["verdict"] for feature in features}
    assert verdicts["num_followers"] == verdicts["num_following"] == "of the past itself"
