"""Faults of raw files that only show once rows are read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from recsys.schema import InputError
from spark_jobs import job
from spark_jobs.settings import SourceTable
from spark_jobs.sources import read_events
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
