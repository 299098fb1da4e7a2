"""What training is handed in and cannot use: each a sentence that names the thing and the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.commands.recommend import latest_cut
from recsys.data.tables import FeatureTables, resolve_tables
from recsys.schema import SCHEMA_VERSION, InputError, Table

METADATA = {
    "schema_version": SCHEMA_VERSION,
    "version": "v1",
    "num_items": 3,
    "num_users": 2,
    "profile_fields": [],
    "split": {"kind": "time", "cuts": {"test": 100}, "horizons_days": [7]},
}


def version(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / Table.METADATA).write_text(json.dumps(METADATA | changes))
    return folder


def examples(folder: Path, columns: dict[str, Any]) -> Path:
    (folder / Table.EXAMPLES).mkdir()
    pq.write_table(pa.table(columns), folder / Table.EXAMPLES / "part-0.parquet")
    return folder


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"shop/latest does not exist; run `python -m spark_jobs"):
        resolve_tables(features_dir=str(tmp_path), dataset="shop", version="latest")
    with pytest.raises(InputError, match="holds no feature tables; run"):
        FeatureTables(tables_dir=tmp_path)


def test_latest_is_the_version_it_points_to(tmp_path: Path) -> None:
    folder = version(tmp_path / "shop" / "v7")
    (tmp_path / "shop" / "latest").symlink_to("v7")
    assert resolve_tables(features_dir=str(tmp_path), dataset="shop", version="latest") == folder


def test_metadata_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / Table.METADATA).write_text("{half")
    with pytest.raises(InputError, match=r"metadata\.json is not JSON .*run `python -m spark_jobs` again"):
        FeatureTables(tables_dir=tmp_path)


def test_another_schema_version(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="schema version 99, this code reads 2; rebuild"):
        FeatureTables(tables_dir=version(tmp_path / "v1", schema_version=99))


def test_a_table_that_is_missing(tmp_path: Path) -> None:
    tables = FeatureTables(tables_dir=version(tmp_path / "v1"), cache_dir=tmp_path / "cache")
    with pytest.raises(InputError, match="examples holds no Parquet files; run"):
        tables.at_cut(split="test")
    with pytest.raises(InputError, match="item_features is missing; run"):
        tables.items("test")
    with pytest.raises(InputError, match="histories holds no Parquet files; run"):
        print(tables.histories)


@pytest.mark.parametrize("split", ["train", "tset"])
def test_a_split_without_one_cut(tmp_path: Path, split: str) -> None:
    tables = FeatureTables(tables_dir=version(tmp_path / "v1"))
    with pytest.raises(InputError, match=f"{split} is no split with one cut; use validation or test"):
        tables.cut(split)


def test_without_time_there_is_no_now(tmp_path: Path) -> None:
    split = {"kind": "leave_one_out", "cuts": {"test": 0}, "horizons_days": []}
    tables = FeatureTables(tables_dir=version(tmp_path / "v1", dataset="shop", split=split))
    assert latest_cut(tables) == "test"
    with pytest.raises(InputError, match="shop is split by leave_one_out, which has no cut now; use test"):
        tables.cut("now")


def test_a_column_that_is_missing(tmp_path: Path) -> None:
    folder = examples(version(tmp_path / "v1"), {"user_index": [1], "cut": [100], "split": ["test"]})
    with pytest.raises(InputError, match=r"part-0\.parquet has no column prefix_length; run"):
        FeatureTables(tables_dir=folder, cache_dir=tmp_path / "cache").at_cut(split="test")


@pytest.mark.parametrize("keep", [0, 0.5, 0.9])
def test_a_parquet_file_that_is_cut_off(tmp_path: Path, keep: float) -> None:
    columns = {"user_index": [1, 2], "cut": [100, 100], "split": ["test"] * 2, "prefix_length": [0, 3]}
    folder = examples(version(tmp_path / "v1"), columns)
    file = folder / Table.EXAMPLES / "part-0.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(InputError, match=r"examples/part-0\.parquet cannot be read"):
        FeatureTables(tables_dir=folder, cache_dir=tmp_path / "cache").at_cut(split="test")


def test_a_page_of_rubbish_inside_a_parquet_file(tmp_path: Path) -> None:
    columns = {"user_index": list(range(1, 500)), "cut": [100] * 499, "split": ["test"] * 499}
    folder = examples(version(tmp_path / "v1"), columns | {"prefix_length": [0] * 499})
    file = folder / Table.EXAMPLES / "part-0.parquet"
    content = bytearray(file.read_bytes())
    content[4:60] = bytes([255]) * 56
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"examples/part-0\.parquet cannot be read"):
        FeatureTables(tables_dir=folder, cache_dir=tmp_path / "cache").at_cut(split="test")
