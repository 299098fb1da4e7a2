"""A lost or changed key is refused: it would split every user in two."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.pseudonym import Key
from recsys.schema import InputError
from spark_jobs import job
from spark_jobs.keys import check_key
from spark_jobs.settings import JobSettings
from tests.spark_jobs import shop

KEY = Key(secret=b"top secret, and long enough", version="v2", is_demo=False)
DEMO = Key(secret=b"recsys-demo-key-not-secret", version="demo-1", is_demo=True)


def settings(tmp_path: Path, *, public: bool = False, **changes: bool) -> JobSettings:
    return dataclasses.replace(
        shop.settings(tmp_path / "raw.parquet", tmp_path, public_examples=public), **changes
    )


def made_under(version: str) -> dict[str, Any]:
    return {"pseudonym": {"key_version": version}}


def outcome_file(path: Path, version: str | None) -> Path:
    metadata = {"recsys.key_version": version} if version else None
    pq.write_table(pa.table({"outcome_id": ["o1"]}).replace_schema_metadata(metadata), path)
    return path


def test_the_demo_key_is_for_public_data_or_on_demand(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"shop is not declared public .* set RECSYS_HMAC_KEY"):
        check_key(DEMO, settings(tmp_path), previous=None, log_files=[])
    for allowed in (settings(tmp_path, public=True), settings(tmp_path, allow_demo_key=True)):
        check_key(DEMO, allowed, previous=None, log_files=[])
    check_key(KEY, settings(tmp_path), previous=None, log_files=[])


@pytest.mark.parametrize(("before", "now"), [("demo-1", KEY), ("v2", DEMO), ("v1", KEY)])
def test_the_key_of_the_last_tables_goes_on(tmp_path: Path, before: str, now: Key) -> None:
    plain = settings(tmp_path, public=True)
    check_key(now, plain, previous=made_under(now.version), log_files=[])
    with pytest.raises(InputError, match=f"'{before}', the current key is '{now.version}'.*rotate_key"):
        check_key(now, plain, previous=made_under(before), log_files=[])
    check_key(
        now, settings(tmp_path, public=True, rotate_key=True), previous=made_under(before), log_files=[]
    )


@pytest.mark.parametrize("version", ["v1", None])
def test_the_key_of_the_feedback_log_goes_on(tmp_path: Path, version: str | None) -> None:
    same, other = outcome_file(tmp_path / "a.parquet", "v2"), outcome_file(tmp_path / "b.parquet", version)
    check_key(KEY, settings(tmp_path), previous=made_under("v2"), log_files=[same])
    with pytest.raises(InputError, match=rf"b\.parquet holds pseudonyms under key version '{version or ''}'"):
        check_key(KEY, settings(tmp_path), previous=made_under("v2"), log_files=[same, other])
    check_key(KEY, settings(tmp_path, rotate_key=True), previous=made_under("v1"), log_files=[other])


def test_a_torn_file_of_the_feedback_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"a\.parquet cannot be read .*; restore it from a backup"):
        check_key(KEY, settings(tmp_path), previous=None, log_files=[tmp_path / "a.parquet"])


def test_a_run_under_another_key_publishes_nothing(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(shop.regular_lines(), tmp_path / "raw.parquet")
    plain = settings(tmp_path, public=True)
    first = job.build(plain, spark)
    monkeypatch.setenv("RECSYS_HMAC_KEY", "top secret, and long enough")
    with pytest.raises(InputError, match="made under key version 'demo-1'") as refused:
        job.build(plain, spark)
    assert "top secret, and long enough" not in str(refused.value)
    assert (first.parent / "latest").resolve() == first
