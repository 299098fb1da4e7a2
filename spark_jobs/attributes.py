"""Undated item and user tables of a data set -> columns the feature steps know."""

from __future__ import annotations

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys.pseudonym import Key
from recsys.schema import Column, InputError
from spark_jobs.columns import Event
from spark_jobs.expressions import find_column, text_column
from spark_jobs.features.items import FIELD, TOKENS
from spark_jobs.settings import ItemTable, SourceTable, UserTable
from spark_jobs.sources import looked_at_once
from spark_jobs.steps.pseudonymise import hmac_sha256


def item_attributes(raw: DataFrame, table: ItemTable) -> DataFrame:
    """(item_id, table_text, field__*, tokens__*), one row an item."""
    path = table.source.path

    def text(setting: str, expression: str) -> SparkColumn:
        return text_column(raw, expression, setting=f"items.{setting}", path=path)

    columns = {Column.ITEM_ID: text("item_id", table.item_id)}
    if table.text:
        columns["table_text"] = text("text", table.text)
    columns |= {FIELD + name: text(f"fields.{name}", value) for name, value in table.fields.items()}
    for name, expression in table.tokens.items():
        columns[TOKENS + name] = _token_list(raw, name, expression, path)
    return _one_row_each(
        raw.select(*[c.alias(name) for name, c in columns.items()]), Column.ITEM_ID, table.source
    )


def user_attributes(raw: DataFrame, table: UserTable, key: Key) -> DataFrame:
    """(user_key, profile__*), one row a user."""
    path = table.source.path

    def text(setting: str, expression: str) -> SparkColumn:
        return text_column(raw, expression, setting=f"users.{setting}", path=path)

    columns = {Event.USER_KEY: hmac_sha256(text("user_id", table.user_id), key.secret)}
    columns |= {Event.PROFILE + name: text(f"profile.{name}", value) for name, value in table.profile.items()}
    return _one_row_each(
        raw.select(*[c.alias(name) for name, c in columns.items()]), Event.USER_KEY, table.source
    )


def _token_list(raw: DataFrame, name: str, expression: str, path: str) -> SparkColumn:
    """Values of an array as `name=value`, so that they never meet a word of the text."""
    setting = f"items.tokens.{name}"
    column, kind = find_column(raw, expression, setting=setting, path=path)
    if not isinstance(kind, T.ArrayType):
        raise InputError(
            f"{setting}: {expression!r} in {path} is {kind.simpleString()}; split it into an array"
        )
    values = F.filter(column.cast("array<string>"), lambda value: F.trim(value) != "")
    return F.transform(values, lambda value: F.concat(F.lit(f"{name}="), F.lower(F.trim(value))))


def _one_row_each(frame: DataFrame, key: str, source: SourceTable) -> DataFrame:
    """The frame without rows lacking the key; InputError where one key has several rows."""
    rows = looked_at_once(frame.where(F.col(key).isNotNull()), source)
    twice = rows.groupBy(key).count().where(F.col("count") > 1).count()
    if twice:
        raise InputError(f"{source.path} has more than one row for {twice} of its ids; keep one row for each")
    return rows
