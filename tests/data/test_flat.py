"""Histories from Parquet: windows of a user joined in order, whatever file or row they lie in."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data import flat as flat_module
from recsys.data.flat import FlatHistories, open_histories
from recsys.data.tables import FeatureTables
from recsys.schema import Column, InputError, Table

LISTS = {
    Column.ITEM_INDEX: pa.list_(pa.int32()),
    Column.EVENT_TYPE: pa.list_(pa.int32()),
    Column.TIMESTAMP: pa.list_(pa.int64()),
    Column.VALUE: pa.list_(pa.float64()),
    Column.RETURNED_AT: pa.list_(pa.int64()),
}
SIGNALS = {
    Column.DWELL_S: pa.list_(pa.float32()),
    Column.QUERY: pa.list_(pa.list_(pa.int32())),
}


def window(user: int, index: int, items: list[int]) -> dict[str, Any]:
    """A row whose other lists follow from the items."""
    return {
        Column.USER_INDEX: user,
        Column.USER_KEY: f"key{user}",
        Column.WINDOW_INDEX: index,
        Column.NUM_EVENTS: len(items),
        Column.ITEM_INDEX: items,
        Column.EVENT_TYPE: [1 + i % 2 for i in items],
        Column.TIMESTAMP: [1000 * i for i in items],
        Column.VALUE: [i / 4 for i in items],
        Column.RETURNED_AT: [0 if i % 3 else 7 * i for i in items],
    }


FILES = [
    [window(3, 1, [8, 9]), window(1, 0, [1, 2, 3])],
    [window(4, 0, []), window(3, 0, [5, 6, 7])],
]


def telling(user: int, index: int, items: list[int]) -> dict[str, Any]:
    """With a dwell of its half and a search for as many words as the item's number leaves over of 3."""
    words = {Column.DWELL_S: [i / 2 for i in items], Column.QUERY: [[i, 1][: i % 3] for i in items]}
    return window(user, index, items) | words


def write(version: Path, files: list[list[dict[str, Any]]], *, signals: bool = False) -> Path:
    scalars = [
        (Column.USER_INDEX, pa.int32()),
        (Column.USER_KEY, pa.string()),
        (Column.WINDOW_INDEX, pa.int32()),
        (Column.NUM_EVENTS, pa.int32()),
    ]
    folder = version / Table.HISTORIES
    folder.mkdir(parents=True)
    for k, rows in enumerate(files):
        table = pa.Table.from_pylist(
            rows, pa.schema([*scalars, *(LISTS | (SIGNALS if signals else {})).items()])
        )
        pq.write_table(table, folder / f"part-{k}.parquet", row_group_size=1)
    return version


def opened(version: Path, num_users: int = 4) -> FlatHistories:
    cache = version.parent / "cache"
    return open_histories(tables_dir=version, cache_dir=cache, num_users=num_users)


def test_windows_come_together_in_order(tmp_path: Path) -> None:
    flat = opened(write(tmp_path / "v1", FILES))
    assert flat.offsets.tolist() == [0, 3, 3, 8, 8]  # user 2 has no row, user 4 no events
    items = [1, 2, 3, 5, 6, 7, 8, 9]
    assert flat.item_index.tolist() == items
    assert flat.event_type.tolist() == [2, 1, 2, 2, 1, 2, 1, 2]
    assert flat.timestamp.tolist() == [1000 * i for i in items]
    assert flat.value.tolist() == [i / 4 for i in items]
    assert flat.returned_at.tolist() == [0, 0, 21, 0, 42, 0, 0, 63]
    assert flat.user_key.tolist() == ["key1", "", "key3", "key4"]
    assert np.isfinite(flat.value).all()


def test_dwell_and_words_come_where_the_tables_have_them(tmp_path: Path) -> None:
    plain = opened(write(tmp_path / "v1", FILES))
    assert (plain.dwell_s, plain.word_start, plain.word) == (None, None, None)
    keys = (Column.USER_INDEX, Column.WINDOW_INDEX, Column.ITEM_INDEX)
    files = [[telling(*(row[key] for key in keys)) for row in part] for part in FILES]
    flat = opened(write(tmp_path / "v2", files, signals=True))
    items = [1, 2, 3, 5, 6, 7, 8, 9]
    assert flat.item_index.tolist() == items
    assert flat.dwell_s is not None
    assert flat.dwell_s.tolist() == [i / 2 for i in items]
    assert flat.word_start is not None
    assert flat.word is not None
    words = [flat.word[a:b].tolist() for a, b in pairwise(flat.word_start.tolist())]
    assert words == [[1], [2, 1], [], [5, 1], [], [7], [8, 1], []]


def test_a_data_set_whose_searches_have_no_known_word_opens(tmp_path: Path) -> None:
    nothing = telling(1, 0, [3, 6])
    flat = opened(write(tmp_path / "v1", [[nothing]], signals=True), num_users=1)
    assert flat.word_start is not None
    assert flat.word_start.tolist() == [0, 0, 0]


def test_three_windows_of_unequal_length_beside_other_users(tmp_path: Path) -> None:
    rows = [
        *(window(2, 2, [6]), window(1, 0, [1]), window(2, 0, [2, 3]), window(3, 1, [9, 10])),
        *(window(3, 0, [7, 8]), window(2, 1, [4, 5])),
    ]
    flat = opened(write(tmp_path / "v1", [rows]), num_users=3)
    assert flat.offsets.tolist() == [0, 1, 6, 10]
    assert flat.item_index.tolist() == list(range(1, 11))


def test_blocks_hold_a_bounded_number_of_rows_and_every_user_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flat_module, "BLOCK_ROWS", 4)
    rows = [window(user, 0, list(range(user % 3 * 2))) for user in range(1, 7)]  # 2, 4, 0, 2, 4, 0 events
    flat = opened(write(tmp_path / "v1", [rows]), num_users=6)
    assert list(flat.blocks()) == [(0, 1), (1, 3), (3, 4), (4, 6)]
    assert list(flat.blocks(rows_per_user=2)) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]


def test_the_second_opening_reads_the_cache_alone(tmp_path: Path) -> None:
    version = write(tmp_path / "v1", FILES)
    first = opened(version)
    for file in (version / Table.HISTORIES).glob("*.parquet"):
        file.unlink()
    assert opened(version).item_index.tolist() == first.item_index.tolist()


def test_a_damaged_file_is_named_and_leaves_no_cache(tmp_path: Path) -> None:
    version = write(tmp_path / "v1", FILES)
    damaged = version / Table.HISTORIES / "part-1.parquet"
    whole = damaged.read_bytes()
    for broken in (b"no parquet", whole[: len(whole) // 2], whole[:4] + bytes(200) + whole[204:]):
        damaged.write_bytes(broken)
        with pytest.raises(InputError, match=r"part-1\.parquet cannot be read"):
            opened(version)
        assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    version = write(tmp_path / "v1", FILES)
    file = version / Table.HISTORIES / "part-0.parquet"
    pq.write_table(pq.read_table(file).drop_columns([Column.RETURNED_AT]), file)
    with pytest.raises(InputError, match="returned_at"):
        opened(version)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="histories holds no Parquet"):
        opened(write(tmp_path / "v1", []))


def test_copies_of_tables_in_folders_of_one_name_are_told_apart(tiny_tables: Path, tmp_path: Path) -> None:
    """As a copy that follows links makes them: `latest` is no version."""
    found = []
    for number in (1, 2):
        copy = tmp_path / str(number) / "latest"
        shutil.copytree(tiny_tables, copy)
        metadata = json.loads((copy / Table.METADATA).read_text())
        metadata |= {"version": f"v{number}", "num_users": metadata["num_users"] + number}
        (copy / Table.METADATA).write_text(json.dumps(metadata))
        found.append(FeatureTables(tables_dir=copy, cache_dir=tmp_path / "cache").histories.num_users)
    assert found[1] == found[0] + 1
