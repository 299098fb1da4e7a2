"""Up to when the users were watched, and whether the log tells of all the time up to then.

A month that the log lacks looks like a month in which nobody bought. One odd date is enough to make such
months: it moves the end of the data, so the test cut and `observed_days` with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.schema import SECONDS_PER_DAY, InputError
from spark_jobs.columns import Event
from spark_jobs.feedback import is_outcome
from spark_jobs.settings import Dataset


@dataclass(frozen=True, kw_only=True)
class SeenDays:
    """The days (UTC, ascending) with rows of the log, and the day of the newest outcome handed back."""

    log: Sequence[date]
    newest_outcome: date | None


def seen_days(kept: DataFrame) -> SeenDays:
    """One pass over the kept events; one row a day reaches the driver."""
    day = F.floor(F.col(Event.TIMESTAMP) / SECONDS_PER_DAY).alias("day")
    rows = kept.select(day, is_outcome().alias("is_outcome")).distinct().collect()
    log = sorted(row["day"] for row in rows if not row["is_outcome"])
    outcomes = [row["day"] for row in rows if row["is_outcome"]]
    return SeenDays(log=[_date(n) for n in log], newest_outcome=_date(max(outcomes)) if outcomes else None)


def check_gaps(seen: SeenDays, dataset: Dataset) -> None:
    """InputError where the log pauses, or ends before the newest outcome, for more than split.max_gap_days.

    Outcomes are a part of what happened, so many of them after the log's end fill no gap.
    """
    longest = timedelta(days=dataset.split.longest_gap_days)
    setting = f"or set split.max_gap_days to more than {longest.days}"
    for before, after in pairwise(seen.log):
        if after - before > longest:
            raise InputError(
                f"the log of data set {dataset.name} has no event between {before} and {after}; mend an odd"
                f" date, add what is missing, {setting} if nothing happened then"
            )
    if seen.log and seen.newest_outcome and seen.newest_outcome - seen.log[-1] > longest:
        raise InputError(
            f"the newest outcome handed back to data set {dataset.name} is of {seen.newest_outcome} and the"
            f" log ends on {seen.log[-1]}; add the log's rows up to then, {setting} if the log lacks none"
        )


def _date(day: int) -> date:
    return datetime.fromtimestamp(day * SECONDS_PER_DAY, tz=UTC).date()
