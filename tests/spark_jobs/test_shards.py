"""Files of equal rows, row groups of a size, and what the metadata says of both."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from recsys.schema import InputError
from spark_jobs.publish import write_table
from spark_jobs.settings import OutputSettings
from spark_jobs.shards import equal_shards
from spark_jobs.sizes import shown_sizes, table_sizes


def uneven(spark: Any, num_rows: int) -> Any:
    """Most rows in one of five partitions, some partitions empty."""
    part = F.when(F.col("id") % 10 < 8, 0).otherwise((F.col("id") % 5).cast("int"))
    return spark.range(num_rows).withColumn("word", F.col("id") % 7).repartitionById(5, part)


@pytest.mark.parametrize(
    ("num_rows", "rows", "sizes"),
    [
        (1003, 100, [91] * 9 + [92] * 2),
        (300, 100, [100] * 3),
        (7, 100, [7]),
        (101, 100, [50, 51]),
        (0, 9, [0]),
    ],
)
def test_files_have_equal_rows(
    spark: Any, tmp_path: Path, num_rows: int, rows: int, sizes: list[int]
) -> None:
    shards = equal_shards(uneven(spark, num_rows), rows=rows, order=["word", "id"])
    write_table(shards, tmp_path, "table", row_group_mb=1)
    files = [pq.read_table(file).to_pylist() for file in (tmp_path / "table").glob("*.parquet")]
    assert sorted(map(len, files)) == sizes
    assert Counter(row["id"] for file in files for row in file) == Counter(range(num_rows))
    for file in files:
        places = [(row["word"], row["id"]) for row in file]
        assert places == sorted(places)
        assert all(row.keys() == {"id", "word"} for row in file)


def test_row_groups_keep_their_size_with_dictionaries_and_statistics(spark: Any, tmp_path: Path) -> None:
    frame = spark.range(200_000).withColumns(
        {"hash": F.sha2(F.col("id").cast("string"), 256), "word": F.lit("a")}
    )
    write_table(equal_shards(frame, rows=200_000, order=["id"]), tmp_path, "table", row_group_mb=2)
    (file,) = (tmp_path / "table").glob("*.parquet")
    footer = pq.read_metadata(file)
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    # 64 letters and a length a row are 13.6 MB in all
    assert len(groups) >= 6
    assert max(group.total_byte_size for group in groups) < 3 * 2**20
    ids = [group.column(0).statistics for group in groups]
    assert [ids[0].min, ids[-1].max] == [0, 199_999]
    assert all(before.max < after.min for before, after in pairwise(ids))
    assert all(group.column(2).has_dictionary_page for group in groups)


def test_sizes_are_those_of_the_files(spark: Any, tmp_path: Path) -> None:
    write_table(equal_shards(uneven(spark, 1003), rows=100, order=["id"]), tmp_path, "many", row_group_mb=1)
    write_table(spark.range(0), tmp_path, "none", row_group_mb=1)
    sizes = table_sizes(tmp_path, ["many", "none"])
    on_disk = sum(file.stat().st_size for file in (tmp_path / "many").glob("*.parquet"))
    assert {name: sizes["many"][name] for name in ("files", "rows", "bytes", "rows_in_file")} == {
        "files": 11,
        "rows": 1003,
        "bytes": on_disk,
        "rows_in_file": [91, 92],
    }
    assert sizes["none"]["rows"] == 0
    assert shown_sizes(sizes).startswith("many 1,003 rows in 11 files of 0.0 MB")


@pytest.mark.parametrize("wrong", [{"rows_per_file": 0}, {"row_group_mb": 0.0}])
def test_sizes_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="rows_per_file and row_group_mb must be more than 0"):
        OutputSettings(**wrong)
