"""A table that grows row by row: by a column that only grows it is appended as new files are."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from recsys.schema import InputError, Table
from spark_jobs import job
from spark_jobs.settings import JobSettings
from spark_jobs.sources import IN_BATCH, newest_mark, read_events
from spark_jobs.spans import Mark, Span, batch_of, is_before, whole
from tests.spark_jobs import shop
from tests.spark_jobs.content import content
from tests.spark_jobs.test_append import SECOND, bought, counts, days
from tests.spark_jobs.test_append import settings as by_files


def settings(folder: Path, mode: str = "incremental") -> JobSettings:
    plain = by_files(folder, mode)
    events = dataclasses.replace(
        plain.dataset.events, path=str(folder / "log" / "table.parquet"), appended_by="line_id"
    )
    return dataclasses.replace(plain, dataset=dataclasses.replace(plain.dataset, events=events))


def write(lines: list[shop.Line], path: Path, *, after: int = 0) -> None:
    """The table without the rows up to number `after`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = pa.array(range(1, len(lines) + 1), pa.int64())
    rows = pa.Table.from_pylist(lines, schema=shop.SCHEMA).append_column("line_id", numbers)
    pq.write_table(rows.slice(after), path)


@pytest.fixture(scope="module")
def grown(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], list[Path]]:
    """The folder of a table to which each day was appended, its versions, and those of a file a day."""
    folder, other = tmp_path_factory.mktemp("table"), tmp_path_factory.mktemp("files")
    lines: list[shop.Line] = []
    versions, of_files = [], []
    for name, more in days().items():
        lines += more
        write(lines, folder / "log" / "table.parquet")
        shop.write(more, other / "log" / name)
        if name == SECOND:
            bought(folder)
            bought(other)
        versions.append(job.build(settings(folder), spark))
        of_files.append(job.build(by_files(other), spark))
    return folder, versions, of_files


def spans(version: Path) -> list[tuple[Mark | None, Mark]]:
    batches = json.loads((version / Table.LEDGER).read_text())["batches"]
    found = [entry for batch in batches for entry in batch["inputs"] if "upto" in entry]
    return [(entry["above"], entry["upto"]) for entry in found]


@pytest.mark.slow
def test_rows_are_appended_as_files_are(grown: tuple[Path, list[Path], list[Path]]) -> None:
    _, versions, of_files = grown
    lengths = [len(lines) for lines in days().values()]
    ends = [sum(lengths[: number + 1]) for number in range(3)]
    assert spans(versions[-1]) == [(None, ends[0]), (ends[0], ends[1]), (ends[1], ends[2])]
    for version, of_file in zip(versions, of_files, strict=True):
        assert content(version) == content(of_file)
        assert counts(version) == counts(of_file)


@pytest.mark.slow
def test_a_full_run_plays_the_spans_again(spark: Any, grown: tuple[Path, list[Path], list[Path]]) -> None:
    folder, versions, _ = grown
    again = job.build(settings(folder, "full"), spark)
    assert content(again) == content(versions[-1])
    assert spans(again) == spans(versions[-1])
    assert not json.loads((again / Table.LEDGER).read_text())["is_based"]


@pytest.mark.slow
def test_rows_that_were_appended_may_be_gone(spark: Any, tmp_path: Path, capsys: Any) -> None:
    first, second, _ = days().values()
    path = tmp_path / "log" / "table.parquet"
    write(first, path)
    job.build(settings(tmp_path), spark)
    write([*first, *second], path, after=len(first))
    version = job.build(settings(tmp_path), spark)
    assert counts(version)["rows_in"] == len(first) + len(second)
    with pytest.raises(InputError, match=r"every row of .*table.parquet is in version .* already; there is"):
        job.build(settings(tmp_path), spark)
    write([*first, *second], path, after=3)
    job.build(settings(tmp_path, "full"), spark)
    assert f"the last version was made of {len(first) + len(second)}" in capsys.readouterr().err
    write(first, path)
    with pytest.raises(InputError, match=rf"ends with line_id {len(first)}, and version .* rows up to"):
        job.build(settings(tmp_path), spark)
    anew = job.build(settings(tmp_path, "full"), spark)
    assert spans(anew) == [(None, len(first))]
    assert json.loads((anew / Table.LEDGER).read_text())["is_based"]
    assert counts(anew)["rows_in"] == len(first)


@pytest.mark.parametrize(
    ("values", "kind", "newest"),
    [
        ("1, 30, 4", "bigint", 30),
        ("1, 30, 4", "decimal(20, 0)", 30),
        ("'2024-03-01', '2024-03-02 01:00:00.5', '2024-03-02'", "timestamp", "2024-03-02 01:00:00.5"),
        ("'2024-03-01', '2024-03-02', '2024-02-29'", "date", "2024-03-02"),
    ],
)
def test_numbers_and_times_tell_spans(
    spark: Any, tmp_path: Path, values: str, kind: str, newest: Mark
) -> None:
    table = spark.sql(f"select cast(seen as {kind}) as seen from (select explode(array({values})) as seen)")
    table.write.parquet(str(tmp_path / "table"))
    source = dataclasses.replace(shop.dataset(tmp_path / "table").events, appended_by="seen")
    assert newest_mark(spark, source) == newest
    read = spark.read.parquet(str(tmp_path / "table"))
    seen = [row[0] for row in read.orderBy("seen").select(F.col("seen").cast("string")).collect()]
    marks = [int(mark) if isinstance(newest, int) else mark for mark in seen]
    held = read.where(Span(above=marks[0], upto=marks[1]).holds(F.col("seen")))
    assert [row[0] for row in held.select(F.col("seen").cast("string")).collect()] == [seen[1]]
    ends = {4: Span(above=None, upto=marks[0]), 5: Span(above=marks[0], upto=marks[1])}
    ends[7] = Span(above=marks[1], upto=marks[2])
    told = read.withColumn("batch", batch_of(F.col("seen"), ends)).orderBy("seen")
    assert [row["batch"] for row in told.collect()] == [4, 5, 7]
    assert whole(ends) == Span(above=None, upto=marks[2])


def test_folders_of_days_are_passed_over(spark: Any, tmp_path: Path) -> None:
    for day in range(1, 4):
        shop.write([shop.line("u", "A", day)], tmp_path / "log" / f"day=2024-03-0{day}" / "part.parquet")
    plain = shop.dataset(tmp_path / "log")
    by_day = dataclasses.replace(plain.events, appended_by="cast(day as date)")
    dataset = dataclasses.replace(plain, events=by_day)
    assert newest_mark(spark, by_day) == "2024-03-03"
    spans = {2: Span(above="2024-03-01", upto="2024-03-02"), 3: Span(above="2024-03-02", upto="2024-03-03")}
    read = read_events(spark, dataset, spans=spans)
    (tmp_path / "log" / "day=2024-03-01" / "part.parquet").write_bytes(b"must not be read")
    assert sorted((row["day"], row[IN_BATCH]) for row in read.collect()) == [
        ("2024-03-02", 2),
        ("2024-03-03", 3),
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("1.5D, 2.5D", "'seen' in .* is double; give a whole number or a time, as cast"),
        ("'99', '100'", "'seen' in .* is string; give a whole number or a time, as cast"),
        ("9223372036854775808", "goes up to 9223372036854775808, and the highest number"),
        ("1, null", "1 rows of .* have no seen; name a column that every row has"),
    ],
)
def test_a_column_that_would_lose_rows_is_refused(
    spark: Any, tmp_path: Path, values: str, message: str
) -> None:
    spark.sql(f"select explode(array({values})) as seen").write.parquet(str(tmp_path / "table"))
    source = dataclasses.replace(shop.dataset(tmp_path / "table").events, appended_by="seen")
    with pytest.raises(InputError, match=message):
        newest_mark(spark, source)


@pytest.mark.slow
def test_a_full_run_reads_all_rows_where_another_input_is_gone(
    spark: Any, grown: tuple[Path, list[Path], list[Path]]
) -> None:
    folder, versions, _ = grown
    outcomes = next((folder / "feedback").rglob("*.parquet"))
    outcomes.rename(folder / "away.parquet")
    try:
        anew = job.build(settings(folder, "full"), spark)
    finally:
        (folder / "away.parquet").rename(outcomes)
    assert spans(anew) == [(None, spans(versions[-1])[-1][1])]
    assert counts(anew)["rows_in"] == counts(versions[-1])["rows_in"] - 1


def test_a_mark_of_another_kind_is_no_later_one() -> None:
    assert is_before(2, 10)
    assert not is_before(10, 10)
    assert is_before("2024-03-02 00:00:00", "2024-03-02 00:00:00.5")
    assert is_before("9", 1)
