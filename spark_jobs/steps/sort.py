"""Flagged rows -> kept and quarantined ones, with every row accounted for."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs import gate
from spark_jobs.columns import Event
from spark_jobs.feedback import without_logged
from spark_jobs.session import pin
from spark_jobs.settings import Dataset
from spark_jobs.steps.duplicates import deduplicate
from spark_jobs.steps.order import tie_columns
from spark_jobs.steps.returns import keep_without_matching, match_returns


@dataclass(frozen=True, kw_only=True)
class Sorted:
    """`measured`: what the gate judges; `quarantined`: rows by reason; `ties`: the tie key in use."""

    kept: DataFrame
    quarantine: DataFrame
    measured: dict[str, float]
    quarantined: dict[str, int]
    ties: list[str]


def sort_out(flagged: DataFrame, dataset: Dataset, raw_counts: dict[str, float]) -> Sorted:
    """Deduplicate, drop outcomes that the log tells too, and match returns.

    RuntimeError if rows in are not kept + quarantined + duplicates.
    `flagged`: from `clean.flag`; `raw_counts`: from `gate.measure_raw` of the same rows.
    """
    ties = tie_columns(dataset.tie_key, [name for name in flagged.columns if name != Event.REASON])
    unique = pin(deduplicate(flagged.where(F.col(Event.REASON).isNull())))
    num_unique = unique.count()
    if raw_counts["outcomes_in"]:
        unique = pin(without_logged(unique, has_value=dataset.has_value))
    num_new = unique.count()
    matched = pin(match_returns(unique, ties) if dataset.has_value else keep_without_matching(unique))
    is_kept = F.col(Event.REASON).isNull()
    kept = matched.where(is_kept).drop(Event.REASON)
    orphans = matched.where(~is_kept).select(*flagged.columns)
    quarantine = flagged.where(~is_kept).unionByName(orphans)
    quarantined = {row[0]: row[1] for row in quarantine.groupBy(Event.REASON).count().collect()}
    duplicates = int(raw_counts["rows_clean"]) - num_new
    counts = {"duplicates": duplicates, "outcomes_in_log": num_unique - num_new}
    measured = raw_counts | gate.measure_kept(kept) | counts
    gate.check_accounting(
        rows_in=int(measured["rows_in"]),
        rows_kept=int(measured["rows_kept"]),
        quarantined=sum(quarantined.values()),
        duplicates=duplicates,
    )
    return Sorted(kept=kept, quarantine=quarantine, measured=measured, quarantined=quarantined, ties=ties)
