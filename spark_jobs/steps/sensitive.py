"""Raw columns declared sensitive: left unread, made coarser, or sealed with AES-GCM by Spark itself."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.schema import Column, InputError, Sealed, Table
from recsys.sealed import AesKey, place
from spark_jobs.expressions import find_column, text_column
from spark_jobs.settings import Dataset, Sensitive, UserTable
from spark_jobs.steps.pseudonymise import hmac_sha256

SEALED_SCHEMA = f"{Column.USER_KEY} string, {Sealed.COLUMN} string, {Sealed.VALUE} binary"
_MARK = "\x00"  # stands for the pseudonym while the rest of a place is put together


def guarded(frame: DataFrame, sensitive: Sensitive, *, path: str) -> DataFrame:
    """The frame as the other steps may see it: what is dropped or sealed is no column of it any more."""
    coarser = {
        name: find_column(frame, text, setting=f"sensitive.coarsen.{name}", path=path)[0]
        for name, text in sensitive.coarsen.items()
        if name in frame.columns
    }
    return frame.withColumns(coarser).drop(*sensitive.drop, *sensitive.encrypt)


def check_declared(sensitive: Sensitive, frames: Iterable[DataFrame]) -> None:
    """InputError for a name that no raw table has: misspelt, it would protect nothing."""
    known = {name for frame in frames for name in frame.columns}
    for name in (*sensitive.drop, *sensitive.coarsen, *sensitive.encrypt):
        if name not in known:
            raise InputError(f"sensitive: no raw table has a column {name!r}; mend the name or take it out")


def sealed(raw: DataFrame, table: UserTable, dataset: Dataset, *, secret: bytes, key: AesKey) -> DataFrame:
    """(user_key, column, sealed): a row a user and column that is not null. `secret`: of pseudonyms."""
    path = table.source.path
    user_key = hmac_sha256(text_column(raw, table.user_id, setting="users.user_id", path=path), secret)
    parts = []
    for name in dataset.sensitive.encrypt:
        if name not in raw.columns:
            raise InputError(
                f"sensitive.encrypt: {path} has no column {name!r}; only columns of `users` can be sealed"
            )
        text = F.col(f"`{name}`").cast("string").alias("text")
        known = raw.select(user_key.alias(Column.USER_KEY), text).dropna()
        before, after = place(dataset.name, Table.SEALED, name, _MARK).split(_MARK)
        bound_to = F.concat(F.lit(before), F.col(Column.USER_KEY), F.lit(after))
        value = F.aes_encrypt(
            F.col("text"), F.lit(key.secret), F.lit("GCM"), F.lit("DEFAULT"), F.lit(b""), bound_to
        )
        parts.append(
            known.select(Column.USER_KEY, F.lit(name).alias(Sealed.COLUMN), value.alias(Sealed.VALUE))
        )
    return reduce(DataFrame.unionByName, parts)
