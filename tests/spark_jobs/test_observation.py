"""Odd dates and missing months are refused: they would look like months in which nobody bought."""

from __future__ import annotations

import dataclasses
import time
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from recsys.schema import Column, InputError, Table
from spark_jobs import job
from spark_jobs.observation import SeenDays, check_gaps, seen_days
from spark_jobs.settings import Dataset
from tests.spark_jobs import shop

JAN_1, JAN_16, JAN_17 = date(2024, 1, 1), date(2024, 1, 16), date(2024, 1, 17)
FAR = date(2031, 1, 1)


def with_gap(max_gap_days: int | None) -> Dataset:
    plain = shop.dataset(Path("x"))  # window_days: 15
    return dataclasses.replace(plain, split=dataclasses.replace(plain.split, max_gap_days=max_gap_days))


def test_days_are_of_the_log_and_of_the_newest_outcome(spark: Any) -> None:
    rows = [(0, "1"), (86_399, None), (5 * 86_400, "2"), (86_400, "outcome:a"), (9 * 86_400, "outcome:b")]
    found = seen_days(spark.createDataFrame(rows, "timestamp long, order_id string"))
    assert found == SeenDays(log=[date(1970, 1, 1), date(1970, 1, 6)], newest_outcome=date(1970, 1, 10))


@pytest.mark.parametrize(
    ("max_gap_days", "log", "newest_outcome"),
    [
        (None, [JAN_1, JAN_16], None),
        (None, [JAN_1], JAN_16),
        (16, [JAN_1, JAN_17], JAN_1),
        (16, [JAN_1], JAN_17),
    ],
)
def test_a_pause_of_the_longest_gap_passes(
    max_gap_days: int | None, log: list[date], newest_outcome: date | None
) -> None:
    check_gaps(SeenDays(log=log, newest_outcome=newest_outcome), with_gap(max_gap_days))


@pytest.mark.parametrize(
    ("log", "newest_outcome", "message"),
    [
        ([JAN_1, JAN_17], None, "shop has no event between 2024-01-01 and 2024-01-17; .* more than 15"),
        ([JAN_1, FAR, FAR], None, "between 2024-01-01 and 2031-01-01"),
        ([JAN_1], JAN_17, "newest outcome .* is of 2024-01-17 and the log ends on 2024-01-01; add the log's"),
    ],
)
def test_a_longer_one_is_refused_by_its_dates(
    log: list[date], newest_outcome: date | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_gaps(SeenDays(log=log, newest_outcome=newest_outcome), with_gap(None))


def test_one_row_with_an_odd_date_publishes_nothing(spark: Any, tmp_path: Path) -> None:
    lines = [*shop.regular_lines(), shop.line("u1", "A", 500)]
    path = shop.write(lines, tmp_path / "raw.parquet")
    with pytest.raises(InputError, match="no event between 2024-04-29 and 2025-05-15"):
        job.build(shop.settings(path, tmp_path), spark)
    assert not (tmp_path / "features" / "shop").exists()


def test_a_row_of_the_future_moves_nothing(spark: Any, tmp_path: Path) -> None:
    next_week = (time.time() - shop.seconds(0)) / shop.DAY + 7
    lines = [*shop.regular_lines(), shop.line("u1", "A", next_week)]
    version = job.build(shop.settings(shop.write(lines, tmp_path / "raw.parquet"), tmp_path), spark)
    rejected = pq.read_table(version / Table.QUARANTINE).to_pylist()
    assert [row[Column.REASON] for row in rejected] == ["in_the_future"]
    # the last line is of day 119.75, the test cut of day 90
    observed = pq.read_table(version / Table.VALUE_TARGETS)[Column.OBSERVED_DAYS].to_pylist()
    assert min(observed) == pytest.approx(29.75)
