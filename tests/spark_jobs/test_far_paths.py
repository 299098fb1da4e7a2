"""Cloud paths go to Hadoop's file systems as they stand; what these say is one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recsys.schema import InputError
from spark_jobs.settings import SourceTable
from spark_jobs.sources import fingerprints, read_table
from tests.spark_jobs import shop

SCHEMES = ("s3a", "gs", "hdfs")


@pytest.fixture
def buckets(spark: Any, tmp_path: Path) -> Iterator[Path]:
    """The folder that {s3a,gs,hdfs}://bucket/shop stands for, by Hadoop's own mount table."""
    settings = {
        "fs.viewfs.mounttable.bucket.link./shop": tmp_path.as_uri(),
        "fs.viewfs.overload.scheme.target.file.impl": "org.apache.hadoop.fs.LocalFileSystem",
    }
    for scheme in SCHEMES:
        settings[f"fs.{scheme}.impl"] = "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme"
        settings[f"fs.{scheme}.impl.disable.cache"] = "true"
    for name, value in settings.items():
        spark.conf.set(name, value)
    yield tmp_path
    for name in settings:
        spark.conf.unset(name)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_cloud_path_reaches_its_file_system_untouched(spark: Any, buckets: Path, scheme: str) -> None:
    lines = shop.regular_lines()
    shop.write(lines, buckets / "log" / "day=1" / "part 1.parquet")
    source = SourceTable(path=f"{scheme}://bucket/shop/log/day=*")
    frame = read_table(spark, source)
    assert all(file.startswith(f"{scheme}://bucket/shop/log/day=1/part") for file in frame.inputFiles())
    assert sorted(row["invoice"] for row in frame.collect()) == sorted(line["invoice"] for line in lines)
    prints = fingerprints(shop.dataset(Path("unused"), events=source))
    assert prints == [{"path": source.path, "bytes": None, "sha256": None}]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("s3a://bucket/log", r"Spark knows no file system for s3a://; .*spark.jars.packages"),
        ("gs://bucket/log", r"Spark knows no file system for gs://"),
        ("odd://bucket/log", r"Spark knows no file system for odd://"),
        ("hdfs://127.0.0.1:1/log", r"hdfs://127.0.0.1:1/log cannot be read \(Connection refused\)"),
    ],
)
def test_a_file_system_that_is_not_there_is_said(spark: Any, path: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_table(spark, SourceTable(path=path))
