"""Columns declared sensitive: out of sight, coarser, or sealed: Spark and Python open them with the key."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from recsys.pseudonym import load_key, pseudonym
from recsys.schema import Column, InputError, Sealed, Table
from recsys.sealed import AesKey, load_aes_key, place, unseal
from spark_jobs import job
from spark_jobs.settings import JobSettings, Sensitive, SourceTable, UserTable
from tests.spark_jobs import shop

KEY = "0f" * 32
EMAIL = {"u1": "ann@example.org", "u2": "bob@example.org", "u3": None, "stranger": "eve@example.org"}
BORN = [1961, 19687777, 1975, 1980]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobSettings:
    monkeypatch.setenv("RECSYS_AES_KEY", KEY)
    shop.write(shop.regular_lines(), tmp_path / "raw.parquet")
    people = {
        "who": list(EMAIL),
        "email": list(EMAIL.values()),
        "born": BORN,
        "phone": ["1"] * 4,
    }
    pq.write_table(pa.table(people), tmp_path / "people.parquet")
    users = UserTable(
        source=SourceTable(path=str(tmp_path / "people.parquet")), user_id="who", profile={"born": "born"}
    )
    sensitive = Sensitive(drop=["phone"], coarsen={"born": "floor(born / 10) * 10"}, encrypt=["email"])
    return shop.settings(tmp_path / "raw.parquet", tmp_path, users=users, sensitive=sensitive)


def changed(settings: JobSettings, **changes: Any) -> JobSettings:
    return dataclasses.replace(settings, dataset=dataclasses.replace(settings.dataset, **changes))


def sealed_of(version: Path) -> dict[str, bytes]:
    table = pq.read_table(version / Table.SEALED)
    assert set(table[Sealed.COLUMN].to_pylist()) == {"email"}
    return dict(zip(table[Column.USER_KEY].to_pylist(), table[Sealed.VALUE].to_pylist(), strict=True))


def test_python_and_spark_open_what_is_sealed_with_the_key_only(settings: JobSettings, spark: Any) -> None:
    version = job.build(settings, spark)
    found = sealed_of(version)
    keys = {user: pseudonym(user, load_key()) for user in EMAIL}
    assert set(found) == {keys["u1"], keys["u2"]}  # without an address, and outside the log, there is no row
    for user in ("u1", "u2"):
        bound_to = place("shop", Table.SEALED, "email", keys[user])
        assert unseal(found[keys[user]], load_aes_key(), bound_to=bound_to) == EMAIL[user]
        with pytest.raises(InputError, match="does not open: another key"):
            unseal(found[keys[user]], AesKey(secret=b"x" * 32), bound_to=bound_to)
        for bit in (0, 12, len(found[keys[user]]) - 1):  # nonce, text, tag
            flipped = bytearray(found[keys[user]])
            flipped[bit] ^= 1
            with pytest.raises(InputError, match="were changed"):
                unseal(bytes(flipped), load_aes_key(), bound_to=bound_to)
    with pytest.raises(InputError, match="its place were changed"):
        unseal(found[keys["u1"]], load_aes_key(), bound_to=place("shop", Table.SEALED, "email", keys["u2"]))

    def opened(secret: bytes, table: str) -> dict[str, str]:
        bound_to = F.concat(F.lit(f"shop/{table}/email/"), F.col(Column.USER_KEY))
        text = F.try_aes_decrypt(F.col(Sealed.VALUE), F.lit(secret), F.lit("GCM"), F.lit("DEFAULT"), bound_to)
        rows = spark.read.parquet(f"file://{version / Table.SEALED}")
        rows = rows.select(Column.USER_KEY, text.cast("string"))
        return {row[0]: row[1] for row in rows.collect()}

    assert opened(bytes.fromhex(KEY), Table.SEALED) == {keys[user]: EMAIL[user] for user in ("u1", "u2")}
    assert set(opened(b"x" * 32, Table.SEALED).values()) == {None}
    assert set(opened(bytes.fromhex(KEY), "elsewhere").values()) == {None}


def test_nothing_readable_is_left(settings: JobSettings, spark: Any) -> None:
    version = job.build(settings, spark)
    words = json.loads((version / Table.VOCABULARIES).read_text())
    assert words["profile_fields"]["born"] == ["1960", "19687770", "1970"]  # not the years
    for path in (path for path in version.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += json.dumps(pq.read_table(path).to_pylist(), default=str).encode()
        for word in ("example.org", "19687777", KEY):
            assert word.encode() not in content, path
    metadata = json.loads((version / Table.METADATA).read_text())
    assert metadata["sealed"] == {"columns": ["email"], "key_version": load_aes_key().version}
    assert re.fullmatch("[0-9a-f]{8}", metadata["sealed"]["key_version"])


@pytest.mark.parametrize("name", ["phone", "email"])
def test_no_feature_may_use_them(settings: JobSettings, spark: Any, name: str) -> None:
    assert settings.dataset.users is not None
    users = dataclasses.replace(settings.dataset.users, profile={"mine": f"lower({name})"})
    with pytest.raises(InputError, match=f"no column '{name}'"):
        job.build(changed(settings, users=users), spark)


def test_mistakes_are_named(settings: JobSettings, spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no raw table has a column 'fone'"):
        job.build(changed(settings, sensitive=Sensitive(drop=["fone"])), spark)
    with pytest.raises(InputError, match="only columns of `users` can be sealed"):
        job.build(changed(settings, sensitive=Sensitive(encrypt=["country"])), spark)
    with pytest.raises(InputError, match="'email' twice"):
        Sensitive(drop=["email"], encrypt=["email"])
    with pytest.raises(InputError, match="needs `users`"):
        changed(settings, users=None)
    monkeypatch.setenv("RECSYS_AES_KEY", KEY[:-2])
    with pytest.raises(InputError, match="must be 64 hex digits"):
        job.build(settings, spark)
    monkeypatch.delenv("RECSYS_AES_KEY")
    with pytest.raises(InputError, match="there is no key; set RECSYS_AES_KEY"):
        job.build(settings, spark)
    assert not list(Path(settings.features_dir).glob("shop/2*"))
