"""Dwell, queries and searches without an item: from a raw log into the tables, none from the future."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.pseudonym import load_key, pseudonym
from recsys.schema import PAD, Column, EventType, InputError, Table
from spark_jobs import job
from spark_jobs.ledger import shape_of
from spark_jobs.settings import EventColumns, JobSettings, SourceTable
from spark_jobs.steps.normalise import LONGEST_DWELL_S
from tests.spark_jobs import shop

VIEW, SEARCH, PURCHASE = EventType.VIEW, EventType.SEARCH, EventType.PURCHASE
COLUMNS = EventColumns(
    user_id="who",
    item_id="what",
    timestamp="moment",
    event_type="kind",
    value="paid",
    text="title",
    dwell_s="dwell",
    query="asked",
)
Row = dict[str, Any]


def row(user: str, day: float, kind: str, item: str | None, **told: Any) -> Row:
    paid = 5.0 if kind == PURCHASE else None
    blank = {"dwell": None, "asked": None, "title": None if item is None else f"Red {item} mug"}
    return {"who": user, "what": item, "moment": shop.at(day), "kind": kind, "paid": paid} | blank | told


def log() -> list[Row]:
    """Two users who look, search and buy once a week for 17 weeks; then dirt."""
    rows = []
    for week in range(17):
        for place, user in enumerate(("u1", "u2")):
            day, item = 7 * week + place + 0.5, "abc"[(week + place) % 3]
            rows.append(row(user, day, VIEW, item, dwell=3.5 + week))
            rows.append(row(user, day + 0.1, SEARCH, None, asked=f"RED  {item}, zebra!"))
            rows.append(row(user, day + 0.2, PURCHASE, item))
    dwells = [-4.0, float("nan"), 1e9, None]
    rows += [row("odd", 50 + k, VIEW, "a", dwell=dwell) for k, dwell in enumerate(dwells)]
    rows.append(row("odd", 60, SEARCH, None, asked=None))
    rows.append(row("odd", 61, SEARCH, None, asked=" ".join(["red", "mug"] * 6)))
    rows.append(row("odd", 62, VIEW, None))  # a view needs an item
    rows.append(row("late", 95, SEARCH, None, asked="mug"))  # this user never had an item
    return rows


SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("who", "what", "kind", "asked", "title")]
    + [("moment", pa.timestamp("us")), ("paid", pa.float64()), ("dwell", pa.float64())]
)


def settings(folder: Path, rows: list[Row], **changes: Any) -> JobSettings:
    path = folder / "raw.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
    told = {
        "columns": COLUMNS,
        "event_types": [VIEW, SEARCH, PURCHASE],
        "event_types_without_item": [SEARCH],
        "tie_key": [],
    }
    return shop.settings(path, folder, **(told | changes))


def read(version: Path, table: str) -> list[Row]:
    return pq.read_table(version / table).to_pylist()


def events_of(version: Path, user: str) -> list[Row]:
    """Of one user, in order."""
    key = pseudonym(user, load_key())
    windows = [r for r in read(version, Table.HISTORIES) if r[Column.USER_KEY] == key]
    names = (Column.ITEM_INDEX, Column.EVENT_TYPE, Column.TIMESTAMP, Column.DWELL_S, Column.QUERY)
    return [
        dict(zip(names, values, strict=True))
        for r in sorted(windows, key=lambda r: r[Column.WINDOW_INDEX])
        for values in zip(*(r[name] for name in names), strict=True)
    ]


@pytest.fixture(scope="module")
def version(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signals")
    return job.build(settings(folder, log()), spark)


def words(version: Path, event: Row) -> list[str]:
    tokens = json.loads((version / Table.VOCABULARIES).read_text())["tokens"]
    return [tokens[index - 1] for index in event[Column.QUERY]]


def test_a_history_holds_dwell_and_words_at_their_events(version: Path) -> None:
    events = events_of(version, "u1")
    assert [e[Column.EVENT_TYPE] for e in events[:6]] == [1, 2, 3, 1, 2, 3]
    assert [e[Column.DWELL_S] for e in events[:6]] == [3.5, 0, 0, 4.5, 0, 0]
    # "zebra" is in no item's title
    assert [words(version, e) for e in events[:6]] == [[], ["red", "a"], [], [], ["red", "b"], []]
    metadata = json.loads((version / Table.METADATA).read_text())
    assert (metadata["has_dwell"], metadata["has_queries"]) == (True, True)
    histories = pq.read_schema(next((version / Table.HISTORIES).glob("*.parquet")))
    assert histories.field(Column.DWELL_S).type.value_type == pa.float32()


def test_odd_dwells_are_unknown_or_cut_and_a_query_keeps_eight_words(version: Path) -> None:
    events = events_of(version, "odd")
    assert [e[Column.DWELL_S] for e in events] == [0, 0, LONGEST_DWELL_S, 0, 0, 0]
    assert [words(version, e) for e in events[4:]] == [[], ["red", "mug"] * 4]


def test_only_the_named_types_may_lack_an_item(version: Path) -> None:
    quality = json.loads((version / Table.QUALITY).read_text())
    assert quality["quarantined_by_reason"] == {"missing_item": 1}
    for user in ("u1", "odd", "late"):
        for event in events_of(version, user):
            assert (event[Column.ITEM_INDEX] == PAD) == (event[Column.EVENT_TYPE] == 2)
    assert [words(version, e) for e in events_of(version, "late")] == [["mug"]]


def test_no_item_is_no_item_of_the_tables(version: Path) -> None:
    items = read(version, Table.ITEM_FEATURES)
    assert {(i[Column.ITEM_ID], i[Column.ITEM_INDEX]) for i in items} == {("a", 1), ("b", 2), ("c", 3)}
    metadata = json.loads((version / Table.METADATA).read_text())
    assert metadata["num_items"] == 3
    at_test = [i[Column.POPULARITY] for i in items if i[Column.VALID_FROM] == shop.seconds(90)]
    assert sum(at_test) == sum(60 < 7 * week + place + 0.7 <= 90 for week in range(17) for place in (0, 1))


def test_a_share_of_items_missing_is_of_rows_that_need_one(spark: Any, tmp_path: Path) -> None:
    told = settings(tmp_path, log())
    strict = dataclasses.replace(told, quality={"min_item_share": 0.99, "min_text_share": 0.99})
    quality = json.loads((job.build(strict, spark) / Table.QUALITY).read_text())
    shares = {check["name"]: check["value"] for check in quality["checks"]}
    assert shares["min_item_share"] == pytest.approx(1 - 1 / len(log()))  # the view
    assert shares["min_text_share"] == 1
    assert sum(each["what"] is None for each in log()) > 0.3 * len(log())


def test_what_comes_after_a_cut_changes_nothing_before_it(spark: Any, version: Path, tmp_path: Path) -> None:
    """Views of another length, other queries, and an item whose title has their words."""

    def later(each: Row) -> Row:
        if each["moment"] <= shop.at(90):
            return each
        asked = None if each["asked"] is None else "unicorn red"
        title = None if each["title"] is None else f"{each['title']} unicorn"
        return each | {"dwell": each["dwell"] and 99.0, "asked": asked, "title": title}

    other = job.build(settings(tmp_path, [later(each) for each in log()]), spark)
    for user in ("u1", "u2", "odd"):
        before, after = (
            [(e, words(v, e)) for e in events_of(v, user) if e[Column.TIMESTAMP] <= shop.seconds(90)]
            for v in (version, other)
        )
        assert before == after
    for table, cut in ((Table.ITEM_FEATURES, Column.VALID_FROM), (Table.USER_FEATURES, Column.VALID_FROM)):
        known = [
            sorted((r for r in read(v, table) if r[cut] <= shop.seconds(90)), key=str)
            for v in (version, other)
        ]
        assert known[0] == known[1]


def test_a_data_set_that_tells_neither_has_the_columns_that_it_had(spark: Any, tmp_path: Path) -> None:
    plain = dataclasses.replace(COLUMNS, dwell_s=None, query=None)
    rows = [each for each in log() if each["what"] is not None]
    version = job.build(settings(tmp_path, rows, columns=plain, event_types_without_item=[]), spark)
    names = pq.read_schema(next((version / Table.HISTORIES).glob("*.parquet"))).names
    assert not {Column.DWELL_S, Column.QUERY} & set(names)
    assert not {"has_dwell", "has_queries"} & json.loads((version / Table.METADATA).read_text()).keys()
    assert not {Column.DWELL_S, Column.QUERY} & json.loads((version / Table.PROFILE).read_text()).keys()


def test_settings_that_are_not_used_do_not_end_an_appended_log(tmp_path: Path) -> None:
    """The hash of how lines are read, as it was before there were such settings."""
    join = SourceTable(path="other.parquet", keys=["invoice"])
    plain = shop.dataset(tmp_path / "raw.parquet", join=join)
    told = dataclasses.asdict(plain)
    names = ("columns", "event_types", "cleaning", "sensitive", "join", "has_time")
    before = {name: told[name] for name in names}
    del before["columns"]["dwell_s"], before["columns"]["query"]
    before["events"] = {name: value for name, value in told["events"].items() if name != "path"}
    del before["events"]["appended_by"], before["join"]["appended_by"]
    content = json.dumps([before, "key"], sort_keys=True, default=str)
    assert shape_of(plain, "key") == hashlib.sha256(content.encode()).hexdigest()[:16]
    searches = dataclasses.replace(plain, event_types=["purchase", "search"])
    shapes = [
        *(plain, searches, dataclasses.replace(searches, event_types_without_item=["search"])),
        *(
            dataclasses.replace(plain, columns=dataclasses.replace(plain.columns, **{name: "text"}))
            for name in ("query", "dwell_s")
        ),
    ]
    assert len({shape_of(shape, "key") for shape in shapes}) == len(shapes)


@pytest.mark.parametrize("name", ["purchase", "return", "wish"])
def test_what_is_recommended_or_paid_for_is_an_item(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"event_types_without_item.*{name!r} is none"):
        shop.dataset(tmp_path / "raw.parquet", event_types_without_item=[name])


@pytest.mark.slow
def test_query_and_dwell_go_on_with_an_appended_log(spark: Any, tmp_path: Path) -> None:
    """Batch by batch the tables are those of all rows at once."""
    rows = log()
    cut = [each for each in rows if each["moment"] <= shop.at(100)]
    since = [each for each in rows if each["moment"] > shop.at(100)]

    def run(folder: Path, parts: list[list[Row]], mode: str) -> Path:
        found = folder
        for number, part in enumerate(parts):
            plain = settings(folder / f"part-{number}", part)
            raw = folder / "log" / f"{number}.parquet"
            raw.parent.mkdir(parents=True, exist_ok=True)
            Path(plain.dataset.events.path).rename(raw)
            events = dataclasses.replace(plain.dataset.events, path=str(raw.parent))
            found = job.build(
                dataclasses.replace(
                    plain,
                    mode=mode,
                    features_dir=str(folder / "features"),
                    dataset=dataclasses.replace(plain.dataset, events=events),
                ),
                spark,
            )
        return found

    whole = run(tmp_path / "whole", [rows], "full")
    appended = run(tmp_path / "appended", [cut, since], "incremental")
    for user in ("u1", "u2", "odd", "late"):
        assert events_of(whole, user) == events_of(appended, user)
