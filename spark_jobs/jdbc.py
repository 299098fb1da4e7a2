"""Tables of a database over JDBC, read in parallel. User and password come from the environment only."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace

from pyspark.sql import DataFrame, SparkSession

from recsys.schema import InputError
from spark_jobs.faults import root_cause
from spark_jobs.settings import SourceTable
from spark_jobs.spans import Span

USER, PASSWORD, PASSWORD_FILE = "RECSYS_JDBC_USER", "RECSYS_JDBC_PASSWORD", "RECSYS_JDBC_PASSWORD_FILE"
DRIVERS = {
    "mariadb": "org.mariadb.jdbc.Driver",
    "mysql": "com.mysql.cj.jdbc.Driver",
    "postgresql": "org.postgresql.Driver",
}
# What these servers keep as moments comes in UTC, like all times without a zone.
IN_UTC = {
    "mariadb": "SET time_zone = '+00:00'",
    "mysql": "SET time_zone = '+00:00'",
    "postgresql": "SET TIME ZONE 'UTC'",
}
PARTITION_COLUMN, NUM_PARTITIONS = "partitioncolumn", "numpartitions"
LOWER, UPPER = "lowerbound", "upperbound"


def load_jdbc(
    spark: SparkSession, source: SourceTable, environment: Mapping[str, str] | None = None
) -> DataFrame:
    """The table as a frame of `numPartitions` parts. Their bounds are looked up where the YAML gives none.

    InputError where it names no table or no way to divide it, or where the password file cannot be read.
    """
    options = connection(source, os.environ if environment is None else environment)
    if (PARTITION_COLUMN in options) != (NUM_PARTITIONS in options):
        raise InputError(
            f"options of {source.path}: partitionColumn and numPartitions belong together; give both or none"
        )
    if PARTITION_COLUMN in options and not {LOWER, UPPER} <= set(options):
        options = _with_bounds(spark, options)
    return spark.read.format("jdbc").options(**options).load()


def marks_table(source: SourceTable) -> SourceTable:
    """One row that the server works out: the highest `mark` of `appended_by`, and how many are `lacking`.

    InputError where it is no column of the table itself.
    """
    column = str(source.appended_by)
    if column in source.computed or not re.fullmatch(r"\w+", column):
        raise InputError(
            f"events.appended_by: {column!r} is no column of {source.path} itself, whose server looks up the"
            " highest; name one, or make it one in dbtable, as (select ... as line_id from ...) as lines"
        )
    options = {name.lower(): value for name, value in source.options.items()}
    divided = (PARTITION_COLUMN, NUM_PARTITIONS, LOWER, UPPER)
    whole = {name: value for name, value in options.items() if name not in divided}
    table = options["dbtable"]
    lacking = f"(select count(*) from {table} where {column} is null)"
    asked = f"(select max({column}) as mark, {lacking} as lacking from {table}) as marks"
    return replace(source, options=whole | {"dbtable": asked}, computed={})


def divided_within(source: SourceTable, span: Span) -> SourceTable:
    """The table, divided among queries by the rows of `span` alone where the same column tells both."""
    options = {name.lower(): value for name, value in source.options.items()}
    is_by_mark = str(options.get(PARTITION_COLUMN, "")).lower() == str(source.appended_by).lower()
    if span.above is None or not is_by_mark or {LOWER, UPPER} & set(options):
        return source
    return replace(source, options=options | {LOWER: span.above, UPPER: span.upto})


def connection(source: SourceTable, environment: Mapping[str, str]) -> dict[str, str]:
    """Options for Spark's reader, names in lower case, with user and password from `environment`."""
    options = {name.lower(): str(value) for name, value in source.options.items()}
    if "dbtable" not in options:
        raise InputError(
            f"options of {source.path} name no dbtable; give a table, or (select ...) as one_name"
        )
    family = _family(source.path)
    defaults = {"url": _spark_url(source.path)}
    if family in DRIVERS:
        defaults |= {"driver": DRIVERS[family], "sessioninitstatement": IN_UTC[family]}
    if USER in environment:
        defaults["user"] = environment[USER]
    password = _password(environment)
    if password is not None:
        defaults["password"] = password
    return defaults | options


def explain_jdbc(error: Exception, source: SourceTable) -> str:
    """One sentence for what the driver or the server says."""
    text = str(error)
    if "ClassNotFoundException" in text or "No suitable driver" in text:
        return (
            f"no JDBC driver for {source.path} is at hand; name its jar, as in"
            " spark.jars=[/usr/share/java/mariadb-java-client.jar]"
        )
    return (
        f"{source.path} cannot be read ({root_cause(error)}); see that the server runs, that {USER} and"
        f" {PASSWORD} (or {PASSWORD_FILE}) may read it, and that dbtable is right"
    )


def _family(url: str) -> str:
    """`mariadb` of jdbc:mariadb://host/database."""
    return url.split(":")[1].lower()


def _spark_url(url: str) -> str:
    """Spark quotes names as MySQL does for URLs of that name only; MariaDB's driver takes both."""
    if _family(url) != "mariadb":
        return url
    joint = "&" if "?" in url else "?"
    return re.sub(r"^jdbc:mariadb:", "jdbc:mysql:", url, flags=re.IGNORECASE) + f"{joint}permitMysqlScheme"


def _with_bounds(spark: SparkSession, options: Mapping[str, str]) -> dict[str, str]:
    """Adds least and largest value of the column that divides the table; one part where it has no rows."""
    column, table = options[PARTITION_COLUMN], options["dbtable"]
    whole = {name: value for name, value in options.items() if name not in (PARTITION_COLUMN, NUM_PARTITIONS)}
    asked = f"(select min({column}) as low, max({column}) as high from {table}) as bounds"
    row = spark.read.format("jdbc").options(**(whole | {"dbtable": asked})).load().first()
    if row is None or row["low"] is None:
        return whole
    return {**options, LOWER: str(row["low"]), UPPER: str(row["high"])}


def _password(environment: Mapping[str, str]) -> str | None:
    if PASSWORD in environment or PASSWORD_FILE not in environment:
        return environment.get(PASSWORD)
    path = environment[PASSWORD_FILE]
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().rstrip("\r\n")
    except OSError as error:
        raise InputError(
            f"{PASSWORD_FILE} names {path!r}: {error.strerror}; point it at the password's file"
        ) from None
