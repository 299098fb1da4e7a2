"""The quality gate between cleaning and features: each check is a value, a bound and a verdict.

The measuring reads the data; `judge` is plain Python over what was measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.schema import SECONDS_PER_DAY, InputError
from spark_jobs.columns import Event
from spark_jobs.feedback import is_outcome
from spark_jobs.measures import measured
from spark_jobs.sights import Sights
from spark_jobs.steps.clean import Reason
from spark_jobs.steps.normalise import UNREADABLE_JOINT

OF_ALL_INPUT = (
    "min_user_share",
    "min_item_share",
    "min_timestamp_share",
    "max_duplicate_share",
    "max_quarantined_share",
)
REPEATED = "repeated"  # among counts of input: clean rows that were handed in before
DEFAULT = "default"  # in max_share_by_reason: every reason not named


class QualityError(InputError):
    """The data did not pass; nothing is published."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Bounds of `conf/quality/*.yaml`; None switches a check off. Shares are of the rows handed in."""

    min_user_share: float | None = None
    min_item_share: float | None = None
    min_timestamp_share: float | None = None
    min_text_share: float | None = None  # of the kept rows
    max_duplicate_share: float | None = None
    max_unit_price: float | None = None  # of the kept rows
    max_quantity: float | None = None
    max_age_days: float | None = None  # reference date - newest event
    reference_date: str | None = None  # ISO date; None = today
    max_psi: float | None = None  # drift of any column since the version before
    min_rows: int | None = None
    min_users: int | None = None
    min_items: int | None = None
    max_quarantined_share: float | None = None
    max_share_by_reason: dict[str, float] | None = None
    max_future_changes: int | None = None  # of features at the validation cut, under another future
    max_feature_auc: float | None = None  # of an undated feature, of what came after the cut
    max_chance_gap: float | None = None  # from 0.5 to what shuffled labels show


@dataclass(frozen=True, kw_only=True)
class Check:
    """One verdict. `bound` is "min" or "max"."""

    name: str
    value: float
    bound: str
    threshold: float
    passed: bool


def measure_raw(flagged: DataFrame, rejected: DataFrame, *, has_outcomes: bool) -> dict[str, float]:
    """Counts over every row handed in: completeness, `rows_in` and the outcomes among them.

    `rejected`: those of `flagged` with a reason; `has_outcomes`: whether a log of them was handed back. What
    sound rows have need not be looked at: they name a user and a time, and an item unless they are of a type
    that needs none.
    """
    asked = {"rows_in": F.count(F.lit(1))}
    if has_outcomes:
        asked["outcomes_in"] = F.count_if(is_outcome())
    handed_in = {"outcomes_in": 0} | measured(flagged, asked)
    lacks = {
        Event.USER_KEY: F.col(Event.REASON) == Reason.MISSING_USER,
        Event.ITEM_ID: F.col(Event.ITEM_ID).isNull(),
        Event.TIMESTAMP: F.col(Event.TIMESTAMP).isNull(),
    }
    counted = {"rejected": F.count(F.lit(1))} | {name: F.count_if(lack) for name, lack in lacks.items()}
    lacking = measured(rejected, counted)
    rows_in = handed_in["rows_in"]
    handed_in["rows_clean"] = rows_in - lacking.pop("rejected")
    return handed_in | {f"with_{name}": rows_in - count for name, count in lacking.items()}


def unreadable_columns(rejected: DataFrame) -> list[str]:
    """Names of the numbers for which rows went to the quarantine as unreadable."""
    rows = rejected.where(F.col(Event.REASON) == Reason.UNREADABLE_NUMBER)
    names = rows.select(F.explode(F.split(Event.UNREADABLE, UNREADABLE_JOINT)).alias("name")).distinct()
    return sorted(row["name"] for row in names.collect())


def measure_kept(
    kept: DataFrame, sights: Sights, beside: Mapping[str, SparkColumn]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Volume, ranges and dates of the kept rows, and in the same pass what is asked `beside`."""
    own = {
        "rows_kept": F.count(F.lit(1)),
        "with_text": F.count_if(_has_text()),
        "max_unit_price": F.max(Event.UNIT_PRICE),
        "max_quantity": F.max(Event.QUANTITY),
        "first_timestamp": F.min(Event.TIMESTAMP),
        "last_timestamp": F.max(Event.TIMESTAMP),
    }
    found = measured(kept, own | dict(beside))
    known = {name: found[name] for name in own if found[name] is not None}
    known |= {"num_users": sights.users.count(), "num_items": sights.items.count()}
    return known, {name: found[name] for name in beside}


def _has_text() -> Any:
    """Outcomes carry none, and an event without an item has no item's text to miss."""
    return F.col(Event.TEXT).isNotNull() | is_outcome() | F.col(Event.ITEM_ID).isNull()


def judge(
    measured: Mapping[str, float], quarantined: Mapping[str, int], thresholds: Thresholds, *, has_time: bool
) -> list[Check]:
    """All checks that have a threshold, in a fixed order."""
    rows_in, rows_kept = max(measured["rows_in"], 1), max(measured["rows_kept"], 1)
    values: dict[str, float] = {
        "min_rows": measured["rows_kept"],
        "min_users": measured["num_users"],
        "min_items": measured["num_items"],
        "min_user_share": measured[f"with_{Event.USER_KEY}"] / rows_in,
        "min_item_share": measured[f"with_{Event.ITEM_ID}"] / rows_in,
        "min_timestamp_share": measured[f"with_{Event.TIMESTAMP}"] / rows_in,
        "min_text_share": measured["with_text"] / rows_kept,
        "max_duplicate_share": (measured["duplicates"] - measured["outcomes_in_log"]) / rows_in,
        "max_quarantined_share": sum(quarantined.values()) / rows_in,
        "max_unit_price": measured.get("max_unit_price", 0.0),
        "max_quantity": measured.get("max_quantity", 0.0),
    }
    if "max_psi" in measured:
        values["max_psi"] = measured["max_psi"]
    if has_time and "last_timestamp" in measured:
        values["max_age_days"] = (_reference(thresholds) - measured["last_timestamp"]) / SECONDS_PER_DAY
    checks = []
    for name, value in values.items():
        threshold = getattr(thresholds, name)
        if threshold is not None:
            checks.append(checked(name, value, threshold))
    by_reason = thresholds.max_share_by_reason or {}
    for reason in sorted(quarantined):
        bound = by_reason.get(reason, by_reason.get(DEFAULT))
        if bound is not None:
            checks.append(checked(f"max_share_by_reason.{reason}", quarantined[reason] / rows_in, bound))
    return checks


def judge_appended(
    measured: Mapping[str, float], quarantined: Mapping[str, int], thresholds: Thresholds
) -> list[Check]:
    """The shares once more, of the newest input only: a bad day must not hide among many good ones."""
    shares = {name: getattr(thresholds, name) for name in OF_ALL_INPUT}
    bounds = Thresholds(**shares, max_share_by_reason=thresholds.max_share_by_reason)
    known = {"rows_kept": measured["rows_clean"], "num_users": 0, "num_items": 0, "with_text": 0}
    of_it = {**measured, **known, "duplicates": measured[REPEATED], "outcomes_in_log": 0}
    checks = judge(of_it, quarantined, bounds, has_time=False)
    return [replace(check, name=f"appended.{check.name}") for check in checks]


def raise_on_failure(
    checks: Iterable[Check],
    *,
    unreadable: Mapping[str, str],
    page: Path | None = None,
    remedies: str = "",
) -> None:
    """QualityError that names every failed check with its value and threshold.

    `unreadable`: columns with text where a number belongs, by name, as the YAML writes them; `page`: where
    more is told; `remedies`: of what these checks alone do not tell, as the end of a line.
    """
    failed = [check for check in checks if not check.passed]
    seen = f"; see {page}" if page is not None else ""
    if failed:
        shown = "; ".join(
            f"{check.name}: {check.value:.6g}, {check.bound}imum {check.threshold:.6g}" for check in failed
        )
        raise QualityError(
            f"quality gate failed, nothing was published ({shown}); mend the data, or the thresholds of"
            f" conf/quality if they are wrong{shown_unreadable(unreadable)}{remedies}{seen}"
        )


def shown_unreadable(columns: Mapping[str, str]) -> str:
    """What to do about unreadable numbers, to end a line with; empty where there are none."""
    if not columns:
        return ""
    named = ", ".join(f"columns.{name} ({text})" for name, text in columns.items())
    return (
        f"; numbers that cannot be read stand in {named}: write 12.50, or turn them in the YAML,"
        " as replace(amount, ',', '.') does with a decimal comma"
    )


def report(
    checks: Iterable[Check],
    quarantined: Mapping[str, int],
    counts: Mapping[str, int],
    *,
    leaks: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of quality.json. `leaks`: what the detector found (`leaks.findings`)."""
    return {
        "checks": [asdict(check) for check in checks],
        "quarantined_by_reason": dict(sorted(quarantined.items())),
        "row_counts": dict(counts),
        **({"leaks": dict(leaks)} if leaks else {}),
    }


def check_accounting(*, rows_in: int, rows_kept: int, quarantined: int, duplicates: int) -> None:
    """Every row handed in must be somewhere. A failure is a fault of this program, not of the data."""
    if rows_in != rows_kept + quarantined + duplicates:
        raise RuntimeError(
            f"rows are lost: {rows_in} in, {rows_kept} kept, {quarantined} quarantined,"
            f" {duplicates} duplicates"
        )


def checked(name: str, value: float, threshold: float) -> Check:
    bound = "min" if name.startswith("min") else "max"
    passed = value >= threshold if bound == "min" else value <= threshold
    return Check(name=name, value=float(value), bound=bound, threshold=float(threshold), passed=passed)


def _reference(thresholds: Thresholds) -> float:
    if thresholds.reference_date is None:
        return time.time()
    try:
        return datetime.fromisoformat(thresholds.reference_date).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise InputError(f"quality.reference_date {thresholds.reference_date!r} is no ISO date") from None
