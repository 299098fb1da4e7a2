"""Flagged rows -> kept and quarantined ones, with every row accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.schema import EventType
from spark_jobs import gate
from spark_jobs.columns import Event
from spark_jobs.drift import plain_measures
from spark_jobs.feedback import without_logged
from spark_jobs.gate import REPEATED
from spark_jobs.session import keep, pin
from spark_jobs.settings import Dataset
from spark_jobs.sights import Sights, sights_of
from spark_jobs.steps.clean import Reason
from spark_jobs.steps.duplicates import deduplicate, named
from spark_jobs.steps.order import laid_out, tie_columns
from spark_jobs.steps.returns import keep_without_matching, match_returns


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What earlier batches have left: clean lines, each once, rejected rows, counts of their input."""

    lines: DataFrame
    quarantine: DataFrame
    counts: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Sorted:
    """`sights`: of `kept`, and `plain` what its profile begins with; `measured`: what the gate judges;
    `quarantined`: rows by reason; `ties`: the key of ties in use; `lines`: clean lines of all batches, each
    once; `fresh`: those that earlier ones had not; `input_counts`: of all input; `appended` and
    `appended_quarantined`: of the newest batch, where it has come after others.
    """

    kept: DataFrame
    sights: Sights
    quarantine: DataFrame
    measured: dict[str, float]
    plain: dict[str, Any]
    quarantined: dict[str, int]
    ties: list[str]
    lines: DataFrame
    fresh: DataFrame
    input_counts: dict[str, float]
    appended: dict[str, float] | None = None
    appended_quarantined: dict[str, int] | None = None


def sort_out(
    flagged: DataFrame,
    rejected: DataFrame,
    dataset: Dataset,
    raw_counts: Mapping[str, float],
    *,
    earlier: Earlier | None = None,
    newest: int | None = None,
) -> Sorted:
    """Deduplicate, drop outcomes that the log tells too, and match returns, over the lines of all batches.

    RuntimeError if rows in are not kept + quarantined + duplicates.
    `flagged`: from `clean.flag`; `rejected`: those with a reason; `raw_counts`: from `gate.measure_raw` of
    both; `newest`: a batch to be counted by itself.
    """
    columns = [name for name in flagged.columns if name != Event.BATCH]
    ties = tie_columns(dataset.tie_key, [name for name in columns if name != Event.REASON])
    is_kept = F.col(Event.REASON).isNull()
    lines = flagged.where(is_kept).drop(Event.REASON)
    if earlier is not None:
        lines = earlier.lines.select(*lines.columns).unionByName(lines)
    unique = keep(named(deduplicate(lines, ties)))
    fresh = lines = unique.drop(Event.EVENT_ID)
    is_new = F.col(Event.BATCH) == F.lit(newest)
    all_rejected = rejected.select(*columns)
    if earlier is not None:
        fresh = pin(lines.where(is_new))
        still = earlier.quarantine.where(F.col(Event.REASON) != Reason.RETURN_WITHOUT_PURCHASE)
        all_rejected = pin(still.select(*columns)).unionByName(all_rejected)
    num_unique, num_fresh = unique.count(), fresh.count()
    counts = dict(raw_counts) | {REPEATED: raw_counts["rows_clean"] - num_fresh}
    totals = counts if earlier is None else _with_earlier(counts, earlier, num_lines=num_unique - num_fresh)
    new = unique
    if totals["outcomes_in"]:
        new = keep(laid_out(without_logged(unique, has_value=dataset.has_value)))
    num_new = new.count()
    matched = match_returns(new, ties) if dataset.has_value else keep_without_matching(new)
    kept = matched.where(is_kept).drop(Event.REASON)
    is_return = F.col(Event.EVENT_TYPE) == EventType.RETURN  # the only ones that matching finds wrong
    orphans = matched.where(is_return).where(~is_kept).select(*columns)
    quarantine = all_rejected.unionByName(pin(orphans))
    quarantined = _by_reason(quarantine)
    in_log = num_unique - num_new
    appended = None
    if newest is not None:
        has_outcomes = raw_counts["outcomes_in"] > 0
        appended = gate.measure_raw(flagged.where(is_new), rejected.where(is_new), has_outcomes=has_outcomes)
        appended[REPEATED] = appended["rows_clean"] - fresh.where(is_new).count()
    sights = sights_of(kept)
    found, plain = gate.measure_kept(kept, sights, plain_measures(kept))
    measured = totals | found
    measured |= {"duplicates": totals[REPEATED] + in_log, "outcomes_in_log": in_log}
    gate.check_accounting(
        rows_in=int(measured["rows_in"]),
        rows_kept=int(measured["rows_kept"]),
        quarantined=sum(quarantined.values()),
        duplicates=int(measured["duplicates"]),
    )
    return Sorted(
        kept=kept,
        sights=sights,
        quarantine=quarantine,
        measured=measured,
        plain=plain,
        quarantined=quarantined,
        ties=ties,
        lines=lines,
        fresh=fresh,
        input_counts=totals,
        appended=appended,
        appended_quarantined=None if newest is None else _by_reason(rejected.where(is_new)),
    )


def _with_earlier(counts: Mapping[str, float], earlier: Earlier, *, num_lines: int) -> dict[str, float]:
    """Counts of all input. Of earlier batches those rows count that are there: some may have been erased."""
    totals = {name: count + earlier.counts.get(name, 0) for name, count in counts.items()}
    rejected = earlier.quarantine.where(F.col(Event.REASON) != Reason.RETURN_WITHOUT_PURCHASE).count()
    clean = num_lines + earlier.counts[REPEATED]
    totals["rows_clean"] = counts["rows_clean"] + clean
    totals["rows_in"] = counts["rows_in"] + clean + rejected
    return totals


def _by_reason(rows: DataFrame) -> dict[str, int]:
    return {row[0]: row[1] for row in rows.groupBy(Event.REASON).count().collect()}
