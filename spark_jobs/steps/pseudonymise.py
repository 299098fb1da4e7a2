"""User ids -> keyed pseudonyms: HMAC-SHA256 (RFC 2104) from Spark's own SHA-2; no Python runs per row.

The twin that one id at a time goes through is `recsys.pseudonym.pseudonym`; a test compares them.
"""

from __future__ import annotations

import hashlib

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.pseudonym import Key
from spark_jobs.columns import Event
from spark_jobs.session import few_rows

BLOCK_BYTES = 64
SHA256_BITS = 256


def pseudonymise(events: DataFrame, key: Key) -> DataFrame:
    """`user_id` becomes `user_key` (64 hex digits; null stays null); the raw id is gone."""
    user_key = hmac_sha256(F.col(Event.USER_ID), key.secret).alias(Event.USER_KEY)
    others = [name for name in events.columns if name != Event.USER_ID]
    return events.select(user_key, *others)


def hmac_sha256(message: SparkColumn, secret: bytes) -> SparkColumn:
    """Hex HMAC-SHA256 of a string column's UTF-8 bytes: H((K ^ opad) || H((K ^ ipad) || message))."""
    block = secret if len(secret) <= BLOCK_BYTES else hashlib.sha256(secret).digest()
    block = block.ljust(BLOCK_BYTES, b"\0")
    inner_pad = F.lit(bytes(byte ^ 0x36 for byte in block))
    outer_pad = F.lit(bytes(byte ^ 0x5C for byte in block))
    inner = F.sha2(F.concat(inner_pad, F.encode(message, "UTF-8")), SHA256_BITS)
    return F.sha2(F.concat(outer_pad, F.unhex(inner)), SHA256_BITS)


def without_erased(frame: DataFrame, erased: frozenset[str]) -> DataFrame:
    """Rows of everybody else, and those without a user."""
    if not erased:
        return frame
    gone = few_rows(frame.sparkSession, [(key,) for key in sorted(erased)], f"{Event.USER_KEY} string")
    return frame.join(F.broadcast(gone), on=Event.USER_KEY, how="left_anti").select(*frame.columns)
