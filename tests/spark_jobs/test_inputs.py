"""Bad input: one sentence that names the thing, and nothing published. Good input in every format."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.schema import InputError
from spark_jobs import job
from spark_jobs.settings import ItemTable, SourceTable
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


def test_the_demo_key_is_for_public_data_only(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECSYS_HMAC_KEY", raising=False)
    monkeypatch.delenv("RECSYS_HMAC_KEY_FILE", raising=False)
    settings = shop.settings(tmp_path / "none", tmp_path, public_examples=False)
    with pytest.raises(InputError, match="demo key that everybody has; set RECSYS_HMAC_KEY"):
        job.build(settings, spark)
    for ready in (dataclasses.replace(settings, allow_demo_key=True), settings):
        with pytest.raises(InputError, match="none"):  # the raw file is the next thing to be missed
            job.build(ready, spark)
        monkeypatch.setenv("RECSYS_HMAC_KEY", "top secret")


def test_another_key_than_before_is_refused(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = shop.settings(tmp_path / "none", tmp_path)
    old = {"pseudonym": {"key_version": "old"}}
    with pytest.raises(InputError, match="last version of the tables was made with pseudonym key old"):
        job._load_key(settings, old)
    assert job._load_key(dataclasses.replace(settings, rotate_key=True), old).is_demo
    log = tmp_path / "feedback" / "shop" / "outcomes"
    log.mkdir(parents=True)
    stamped = pa.table({"x": [1]}).replace_schema_metadata({"recsys.key_version": "other"})
    pq.write_table(stamped, log / "one.parquet")
    with pytest.raises(InputError, match="feedback log was made with pseudonym key other"):
        job._load_key(settings, None)


def test_outcomes_long_after_the_log_are_refused(spark: Any, tmp_path: Path) -> None:
    settings = shop.settings(tmp_path / "raw.parquet", tmp_path)

    def at(day: float) -> Any:
        return spark.createDataFrame([(int(day * 86_400),)], "timestamp long")

    job._check_no_gap(at(100), at(115), settings)
    with pytest.raises(InputError, match=r"newest outcome \(1970-04-27\) .* last event of .* \(1970-04-11\)"):
        job._check_no_gap(at(100), at(116.5), settings)
    job._check_no_gap(at(100), at(300_000), settings)  # in the future: a matter of the quarantine
