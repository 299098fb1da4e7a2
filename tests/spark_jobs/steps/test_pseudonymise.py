"""The pseudonym from Spark's SHA-2 equals Python's hmac, and the key is seen nowhere."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from recsys.pseudonym import Key
from spark_jobs.steps.pseudonymise import pseudonymise

USERS = ["17850", "", "naïve Ünïcode 雪", "x" * 300]


@pytest.mark.parametrize("secret", [b"k", b"recsys-demo-key-not-secret", b"\x00\xff" * 32, b"long" * 40])
def test_it_equals_hmac(spark: Any, secret: bytes) -> None:
    frame = spark.createDataFrame([(user, 1) for user in USERS], "user_id string, timestamp int").coalesce(1)
    found = pseudonymise(frame, Key(secret=secret, version="1", is_demo=False))
    assert found.columns == ["user_key", "timestamp"]
    expected = [hmac.new(secret, user.encode(), hashlib.sha256).hexdigest() for user in USERS]
    assert [row["user_key"] for row in found.collect()] == expected


def test_a_missing_user_stays_missing(spark: Any) -> None:
    frame = spark.createDataFrame([(None,)], "user_id string")
    assert pseudonymise(frame, Key(secret=b"k", version="1", is_demo=False)).first()["user_key"] is None


def test_plans_do_not_show_the_key(spark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    secret = b"do not show this key"
    frame = spark.range(3).selectExpr("cast(id as string) as user_id")
    pseudonymise(frame, Key(secret=secret, version="1", is_demo=False)).explain(True)
    shown = capsys.readouterr().out.lower()
    assert "sha2" in shown
    for pad in (0x36, 0x5C):
        assert bytes(byte ^ pad for byte in secret).hex() not in shown
