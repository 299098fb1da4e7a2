"""Bad input: one sentence that names the thing, and nothing published. Good input in every format."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from recsys.pseudonym import load_key
from recsys.schema import InputError
from spark_jobs import job
from spark_jobs.ingest import ingest
from spark_jobs.ledger import plan
from spark_jobs.settings import EventColumns, ItemTable, SourceTable
from spark_jobs.sources import fingerprints
from tests.spark_jobs import shop


def refused(spark: Any, path: Path, folder: Path, message: str, **changes: Any) -> None:
    with pytest.raises(InputError, match=message):
        job.build(shop.settings(path, folder, **changes), spark)
    root = folder / "features" / "shop"
    assert not root.exists() or not list(root.iterdir())


def test_a_missing_file(spark: Any, tmp_path: Path) -> None:
    refused(spark, tmp_path / "none.parquet", tmp_path, "none.parquet does not exist or is an empty folder")


def test_an_empty_table(spark: Any, tmp_path: Path) -> None:
    refused(spark, shop.write([], tmp_path / "raw.parquet"), tmp_path, "raw.parquet is an empty table")


def test_an_empty_csv(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "raw.csv"
    path.write_text("")
    source = SourceTable(path=str(path), format="csv", options={"header": True})
    refused(spark, path, tmp_path, "raw.csv is an empty table", events=source)


def test_a_file_that_is_no_parquet(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "raw.parquet"
    path.write_text("invoice;item\n1;A\n")
    refused(spark, path, tmp_path, "raw.parquet cannot be read as parquet; it is corrupt")


@pytest.mark.parametrize("options", [{}, {"columnNameOfCorruptRecord": "faults"}])
def test_a_file_that_is_no_json(spark: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "raw.json"
    path.write_text("invoice;item\n1;A\n")
    source = SourceTable(path=str(path), format="json", options=options)
    refused(
        spark, path, tmp_path, "raw.json cannot be read as json: no line of it is an object", events=source
    )


def test_decimal_commas_are_named_by_the_gate(spark: Any, tmp_path: Path) -> None:
    rows = ["u1;A;2024-01-01;12,50", "u1;A;2024-01-02;12.50", "u2;A;2024-01-02;private words"]
    path = tmp_path / "raw.csv"
    path.write_text("\n".join(["user;item;moment;amount", *rows]) + "\n")
    columns = EventColumns(
        user_id="user", item_id="item", timestamp="moment", event_type="'purchase'", value="amount"
    )
    changes = {
        "events": SourceTable(path=str(path), format="csv", options={"header": True, "sep": ";"}),
        "columns": columns,
        "tie_key": [],
        "quality": {"max_share_by_reason": {"default": 0.1}},
    }
    message = r"max_share_by_reason.unreadable_number: 0.666667, .* stand in columns.value \(amount\)"
    with pytest.raises(InputError, match=message) as caught:
        job.build(shop.settings(path, tmp_path, **changes), spark)
    assert "private" not in str(caught.value)


def test_a_parquet_file_with_damaged_pages(spark: Any, tmp_path: Path) -> None:
    path = shop.write(shop.regular_lines(), tmp_path / "raw.parquet")
    content = bytearray(path.read_bytes())
    start = 4
    content[start : start + 400] = b"\xff" * 400  # the footer stays whole
    path.write_bytes(content)
    refused(spark, path, tmp_path, "raw.parquet[)] is corrupt")


def test_a_missing_column(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "raw.parquet"
    shop.write(shop.regular_lines(), path)
    pq.write_table(pq.read_table(path).drop(["user"]), path)
    refused(spark, path, tmp_path, "columns.user_id: .*raw.parquet has no column 'user'; it has invoice")


def test_an_item_table_with_an_id_twice(spark: Any, tmp_path: Path) -> None:
    path = shop.write(shop.regular_lines(), tmp_path / "raw.parquet")
    table = ItemTable(source=SourceTable(path=str(path)), item_id="item", fields={"land": "country"})
    refused(spark, path, tmp_path, "more than one row for 4 of its ids", items=table)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_csv_and_json_give_the_same_rows(spark: Any, tmp_path: Path, kind: str) -> None:
    from spark_jobs.sources import read_events
    from spark_jobs.steps.normalise import normalise

    lines = shop.regular_lines()
    path = tmp_path / f"raw.{kind}"
    columns = list(lines[0])
    with path.open("w", newline="") as file:
        if kind == "csv":
            writer = csv.DictWriter(file, columns, delimiter=";")
            writer.writeheader()
            writer.writerows(lines)
        else:
            file.writelines(json.dumps(line, default=str) + "\n" for line in lines)
    options = {"header": True, "sep": ";"} if kind == "csv" else {}
    text = shop.dataset(path, events=SourceTable(path=str(path), format=kind, options=options))
    parquet = shop.dataset(shop.write(lines, tmp_path / "raw.parquet"))
    found = [sorted(map(str, normalise(read_events(spark, d), d).collect())) for d in (text, parquet)]
    assert found[0] == found[1]


def test_a_second_file_is_joined_and_both_are_fingerprinted(spark: Any, tmp_path: Path) -> None:
    import hashlib

    from spark_jobs.sources import read_events

    lines = shop.write(shop.regular_lines(), tmp_path / "lines.parquet")
    (tmp_path / "invoices.csv").write_text("invoice,shop\n0-u1,North\nC1,South\n")
    second = SourceTable(
        path=str(tmp_path / "invoices.csv"), format="csv", options={"header": True}, keys=["invoice"]
    )
    dataset = shop.dataset(lines, join=second)
    joined = read_events(spark, dataset)
    assert joined.count() == len(shop.regular_lines())
    assert {(row["invoice"], row["shop"]) for row in joined.where("shop is not null").collect()} == {
        ("0-u1", "North"),
        ("C1", "South"),
    }
    prints = fingerprints(dataset)
    assert [Path(entry["path"]).name for entry in prints] == ["lines.parquet", "invoices.csv"]
    assert prints[1]["sha256"] == hashlib.sha256((tmp_path / "invoices.csv").read_bytes()).hexdigest()
    wrong = shop.dataset(lines, join=SourceTable(path=str(lines), keys=["basket"]))
    with pytest.raises(InputError, match=r"join.keys: .*lines.parquet has no column 'basket'"):
        read_events(spark, wrong)


@pytest.mark.parametrize(
    ("order_id", "is_pinned"), [("invoice", False), ("uuid()", True)], ids=["as it is", "drawn at random"]
)
def test_parquet_is_read_again_unless_that_would_tell_something_else(
    spark: Any, tmp_path: Path, order_id: str, is_pinned: bool
) -> None:
    path = shop.write(shop.regular_lines(), tmp_path / "raw.parquet")
    columns = dataclasses.replace(shop.dataset(path).columns, order_id=order_id)
    settings = shop.settings(path, tmp_path, columns=columns)
    taken = plan(settings, None, None, key_version="demo", now=shop.seconds(200))
    lines = ingest(spark, settings.dataset, taken, outcomes=None, key=load_key(), erased=frozenset())
    made_of = lines._jdf.queryExecution().executedPlan().toString()
    assert ("ExistingRDD" in made_of, "FileScan" in made_of) == (is_pinned, not is_pinned)
    assert lines.count() == len(shop.regular_lines())
