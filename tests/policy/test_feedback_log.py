"""Appending to the feedback log: once, whole, under one key."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.policy.feedback_log import Appended, append_rows, read_log
from recsys.policy.outcomes import OUTCOME_FILE_SCHEMA, pseudonymised
from recsys.pseudonym import Key
from recsys.schema import InputError, Outcome

KEY = Key(secret=b"pepper", version="v1", is_demo=False)
A12346 = "490993b44714c2d1036782e13bc42e0c194c9513403471cb98450413aedae393"
ZOE = "0a42a9de2203469822652857d20e8669504ef315367558d2118c55de134848cf"
SCHEMA = pa.schema([("a", pa.string()), ("b", pa.int32()), ("value", pa.float64())])


def rows(*values: tuple[str, int, float | None]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in values], schema=SCHEMA)


def append(folder: Path, table: pa.Table, version: str = "v1") -> Appended:
    return append_rows(
        table=table, folder=folder, key_columns=("a", "b"), key_version=version, source="in.csv"
    )


def test_only_rows_that_are_new_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    first = append(folder, rows(("x", 2, 1.0), ("x", 1, None), ("x", 2, 1.0)))
    assert (first.num_new, first.num_known) == (2, 1)
    second = append(folder, rows(("x", 2, 1.0), ("y", 1, 3.0)))
    assert (second.num_new, second.num_known) == (1, 1)
    kept = read_log(folder, SCHEMA, key_version="v1").sort_by([("a", "ascending"), ("b", "ascending")])
    assert kept.equals(rows(("x", 1, None), ("x", 2, 1.0), ("y", 1, 3.0)))


def test_the_same_rows_again_change_nothing(tmp_path: Path) -> None:
    table = rows(("x", 1, None), ("y", 1, 2.0))
    first = append(tmp_path, table)
    assert first.path is not None
    assert hashlib.sha256(first.path.read_bytes()).hexdigest().startswith(first.path.stem)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.glob("*.parquet"))
    again = append(tmp_path, table)
    assert (again.num_new, again.num_known, again.path) == (0, 2, None)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.glob("*.parquet")) == before


def test_one_key_with_two_contents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"in\.csv: a 'x', b 1 comes twice"):
        append(tmp_path, rows(("x", 1, 1.0), ("x", 1, 2.0)))
    append(tmp_path, rows(("x", 1, 1.0)))
    with pytest.raises(InputError, match="is in the log already, with other content"):
        append(tmp_path, rows(("x", 1, None), ("y", 1, 2.0)))
    assert len(list(tmp_path.glob("*.parquet"))) == 1


def test_a_log_never_mixes_two_keys(tmp_path: Path) -> None:
    append(tmp_path, rows(("x", 1, 1.0)))
    with pytest.raises(InputError, match="key version 'v1', the current key is 'v2'"):
        append(tmp_path, rows(("y", 1, 1.0)), version="v2")


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(table: pa.Table, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(pq, "write_table", full_disk)
    with pytest.raises(OSError, match="No space left"):
        append(tmp_path, rows(("x", 1, 1.0)))
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_corrupt_file_of_the_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(InputError, match=r"bad\.parquet cannot be read"):
        append(tmp_path, rows(("x", 1, 1.0)))


def test_user_ids_leave_as_pseudonyms() -> None:
    ids = ["12346", "Zoë", "12346"]
    table = pa.Table.from_pylist(
        [
            {"outcome_id": str(n), "user_id": user, "item_id": "i", "event_type": "view", "timestamp": 1}
            for n, user in enumerate(ids)
        ],
        schema=OUTCOME_FILE_SCHEMA,
    )
    log = pseudonymised(table, KEY)
    assert tuple(log.schema.names) == Outcome.LOG
    # printf '%s' 12346 | openssl dgst -sha256 -hmac pepper, and the same for Zoë
    assert log[Outcome.USER_KEY].to_pylist() == [A12346, ZOE, A12346]
