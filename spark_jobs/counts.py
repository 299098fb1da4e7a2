"""Rows of a run: what came in and where each went."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.schema import Outcome, Response, Table
from spark_jobs.progress import say
from spark_jobs.publish import uri
from spark_jobs.steps.sort import Sorted


def row_counts(rows: Sorted, told: DataFrame | None, folder: Path, spark: SparkSession) -> dict[str, int]:
    return {
        "rows_in": int(rows.measured["rows_in"]),
        "rows_kept": int(rows.measured["rows_kept"]),
        "quarantined": sum(rows.quarantined.values()),
        "duplicates": int(rows.measured["duplicates"]),
        "outcomes_in_log": int(rows.measured["outcomes_in_log"]),
        **_outcome_counts(told, spark.read.parquet(uri(folder / Table.IMPRESSIONS))),
    }


def _outcome_counts(told: DataFrame | None, responses: DataFrame) -> dict[str, int]:
    """Outcomes handed back; those that name a slate; those of them that follow an impression of the log."""
    names = ("feedback_outcomes", "outcomes_of_a_slate", "outcomes_of_an_impression")
    if told is None:
        return dict.fromkeys(names, 0)
    one = told.dropDuplicates([Outcome.OUTCOME_ID])
    total, with_slate = one.agg(F.count("*"), F.count(Outcome.SLATE_ID)).first()  # type: ignore[misc]
    matched = responses.agg(F.sum(Response.NUM_OUTCOMES)).first()[0] or 0  # type: ignore[index]
    if matched < with_slate:
        say(
            f"{with_slate - matched:,} of {with_slate:,} outcomes of a slate follow no impression handed back"
        )
    return dict(zip(names, (total, with_slate, matched), strict=True))
