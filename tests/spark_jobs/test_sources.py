"""Faults of raw files that only show once rows are read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from recsys.schema import InputError
from spark_jobs import job, sources
from spark_jobs.faults import explained
from spark_jobs.settings import SourceTable
from spark_jobs.sources import read_events, read_table
from tests.spark_jobs import shop


def test_a_joined_file_with_a_key_twice_would_multiply_lines(spark: Any, tmp_path: Path) -> None:
    lines = shop.write(shop.regular_lines(), tmp_path / "lines.parquet")
    (tmp_path / "invoices.csv").write_text("invoice,shop\nC1,North\nC1,South\nL1,South\n")
    second = SourceTable(
        path=str(tmp_path / "invoices.csv"), format="csv", options={"header": True}, keys=["invoice"]
    )
    with pytest.raises(InputError, match=r"invoices\.csv has more than one row for 1 of its keys"):
        read_events(spark, shop.dataset(lines, join=second))


def test_an_expression_that_fails_on_a_row_is_named_without_the_row(spark: Any, tmp_path: Path) -> None:
    path = shop.write([shop.line("u1", "A", 1, text="private words")], tmp_path / "raw.parquet")
    plain = shop.settings(path, tmp_path)
    columns = dataclasses.replace(plain.dataset.columns, quantity="cast(text as int)")
    settings = shop.settings(path, tmp_path, columns=columns)
    with pytest.raises(InputError, match=r"fails on some row \(CAST_INVALID_INPUT\)") as caught:
        job.build(settings, spark)
    assert "private" not in str(caught.value)
    assert not (tmp_path / "features" / "shop").exists()


def csv_files(folder: Path, *texts: str) -> SourceTable:
    for number, text in enumerate(texts):
        (folder / f"log {number}[x].csv").write_text(text)
    return SourceTable(path=str(folder / "*.csv"), format="csv", options={"header": True})


def test_csv_files_are_read_by_name_whatever_the_order_of_their_columns(spark: Any, tmp_path: Path) -> None:
    texts = ("user,item\nu1,A\n", "item,user\nB,u2\n", "\nuser,item\nu3,C\n", "")
    source = csv_files(tmp_path, *texts)
    read = read_table(spark, source).select("user", "item").collect()
    assert sorted(tuple(row) for row in read) == [("u1", "A"), ("u2", "B"), ("u3", "C")]


def test_columns_of_dated_folders_stay_where_headers_differ(spark: Any, tmp_path: Path) -> None:
    for day, text in (("1", "user,item\nu1,A\n"), ("2", "item,user\nB,u2\n")):
        (tmp_path / f"day={day}").mkdir()
        (tmp_path / f"day={day}" / "log.csv").write_text(text)
    source = SourceTable(
        path=str(tmp_path),
        format="csv",
        options={"header": "true"},
        computed={"where": "_metadata.file_path"},
    )
    read = read_table(spark, source).select("user", "item", "day", "where").collect()
    assert sorted(tuple(row)[:3] for row in read) == [("u1", "A", "1"), ("u2", "B", "2")]
    assert all(row["where"].endswith(f"day={row['day']}/log.csv") for row in read)


def test_a_csv_file_without_a_column_of_the_others_is_named(spark: Any, tmp_path: Path) -> None:
    source = csv_files(tmp_path, "user,item\nu1,A\n", "user,item,amount\nu2,B,2\n")
    with pytest.raises(
        InputError, match=r"log 0\[x\]\.csv has no column 'amount' and .*log 1\[x\]\.csv has one"
    ):
        read_table(spark, source)


def test_far_csv_files_with_another_order_are_refused(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "is_local", lambda path: False)
    source = csv_files(tmp_path, "user,item\nu1,A\n", "item,user\nB,u2\n")
    with pytest.raises(Exception, match="CSV header does not conform") as caught:
        read_table(spark, source).collect()
    told = explained(caught.value, shop.settings(tmp_path, tmp_path))
    assert "differ in their headers; give all files of a table the same columns" in str(told)


def test_inferred_types_that_cannot_meet_are_refused(spark: Any, tmp_path: Path) -> None:
    source = csv_files(tmp_path, "user,item\n1,5\n", "item,user\n2.5,u2\n")
    source = dataclasses.replace(source, options={"header": True, "inferSchema": True})
    with pytest.raises(
        InputError, match=r"column 'user' is int in .* and string in .*; leave inferSchema out"
    ):
        read_table(spark, source)


def test_a_damaged_compressed_csv_file_is_one_sentence(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "log.csv.gz").write_bytes(b"not compressed")
    source = SourceTable(path=str(tmp_path / "*.gz"), format="csv", options={"header": True})
    with pytest.raises(InputError, match="cannot be read as csv; it is corrupt"):
        read_table(spark, source)
