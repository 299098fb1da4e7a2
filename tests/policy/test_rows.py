"""Files of rows in three formats: what is read, and one line for what cannot be."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.policy.rows import read_rows
from recsys.schema import InputError

SCHEMA = pa.schema([("id", pa.string()), ("timestamp", pa.int64()), ("value", pa.float64())])
EXPECTED = {"id": ["007", "NA"], "timestamp": [1_300_000_000, 1_300_000_001], "value": [2.5, None]}


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def test_the_three_formats_read_the_same(tmp_path: Path) -> None:
    pq.write_table(
        pa.table(
            {
                "extra": [1, 2],
                "id": pa.array(["007", "NA"]).dictionary_encode(),
                "value": pa.array([2.5, None], pa.float32()),
                "timestamp": pa.array([1_300_000_000, 1_300_000_001], pa.int32()),
            }
        ),
        tmp_path / "rows.parquet",
    )
    paths = [
        tmp_path / "rows.parquet",
        write(tmp_path, "rows.csv", "timestamp,extra,id,value\n1300000000,x,007,2.5\n1300000001,y,NA,\n"),
        write(tmp_path, "bom.CSV", "\ufeffid,timestamp,value\r\n007,1300000000,2.5\r\nNA,1300000001,\r\n"),
        write(
            tmp_path,
            "rows.jsonl",
            '{"id": "007", "timestamp": 1300000000, "value": 2.5, "extra": {"a": 1}}\n'
            '{"id": "NA", "timestamp": 1300000001}\n',
        ),
    ]
    for path in paths:
        table = read_rows(path, SCHEMA)
        assert table.schema == SCHEMA
        assert table.to_pydict() == EXPECTED, path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.csv", None, "missing.csv is not a file; correct the path"),
        ("rows.xlsx", "x", "ends in '.xlsx'; hand in one of .parquet, .csv"),
        ("rows.parquet", "PAR1 this is no Parquet", "cannot be read"),
        ("rows.csv", "", "has no column 'id', 'timestamp', 'value'"),
        ("rows.csv", "id,value\n1,2\n", "has no column 'timestamp'; it needs id, timestamp, value"),
        ("rows.csv", "id,timestamp,value\n", "has no rows"),
        ("rows.csv", "id,timestamp,value\n1,yesterday,2\n", "yesterday"),
        ("rows.csv", "id,timestamp,value\n1,2\n", "Expected 3 columns, got 2"),
        ("rows.csv", "id,timestamp,value\n1,2011-03-13 07:06:40,2\n", "cannot be read"),
        ("rows.jsonl", "", "has no rows"),
        ("rows.jsonl", '{"id": 7, "timestamp": 1, "value": 2}\n', "id"),
        ("rows.jsonl", '{"id": "7", "timestamp": 1,\n', "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_says_so_in_one_line(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_rows(path, SCHEMA)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("id", pa.array([7]), "column 'id' is int64, not string"),
        ("timestamp", pa.array([1.5]), "column 'timestamp' is double, not int64"),
        ("timestamp", pa.array([0], pa.timestamp("ms")), "column 'timestamp' is timestamp"),
        ("value", pa.array(["2.5"]), "column 'value' is string, not double"),
        ("value", pa.array([True]), "column 'value' is bool, not double"),
    ],
)
def test_a_parquet_column_of_another_type_is_named(
    tmp_path: Path, column: str, values: pa.Array, message: str
) -> None:
    columns = {"id": pa.array(["7"]), "timestamp": pa.array([1]), "value": pa.array([2.5])} | {column: values}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    with pytest.raises(InputError, match=message):
        read_rows(tmp_path / "rows.parquet", SCHEMA)
