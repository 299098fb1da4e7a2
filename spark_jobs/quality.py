"""Whether the rows of a run are good enough to publish, and the page that shows why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys.disk import whole_file
from recsys.schema import InputError
from recsys.settings import read_settings
from spark_jobs import gate
from spark_jobs.dropped import droppable
from spark_jobs.leaks.findings import Findings, checks_of, remedies
from spark_jobs.page import examples_of_reasons, page
from spark_jobs.progress import say
from spark_jobs.settings import JobSettings
from spark_jobs.steps.sort import Sorted

FAILED_PAGE = "refused.html"  # beside the versions, of the last run that the gate stopped


def thresholds_of(settings: JobSettings) -> gate.Thresholds:
    """Bounds of the gate: those of the data set on top of those for all."""
    bounds = _merged(settings.quality, settings.dataset.quality)
    return read_settings(gate.Thresholds, bounds, where="quality")


def judged(
    rows: Sorted, looks: Mapping[str, Any], settings: JobSettings, *, unreadable: list[str]
) -> list[gate.Check]:
    """The gate's checks, all passed; QualityError otherwise, with a page that shows more."""
    thresholds = thresholds_of(settings)
    drift = [about["psi"] for about in looks.values() if "psi" in about]
    measured = rows.measured | ({"max_psi": max(drift)} if drift else {})
    checks = gate.judge(measured, rows.quarantined, thresholds, has_time=settings.dataset.has_time)
    if rows.appended is not None:
        checks += gate.judge_appended(rows.appended, rows.appended_quarantined or {}, thresholds)
    named = {name: getattr(settings.dataset.columns, name) for name in unreadable}
    page = _page_of_refusal(checks, rows, looks, settings)
    gate.raise_on_failure(checks, unreadable=named, page=page)
    if not rows.measured["rows_kept"]:
        raise InputError(
            f"no row of {settings.dataset.events.path} is left after cleaning; mend the columns"
            f"{gate.shown_unreadable(named)}"
        )
    return checks


def judged_leaks(
    checks: list[gate.Check],
    findings: Findings,
    rows: Sorted,
    looks: Mapping[str, Any],
    settings: JobSettings,
) -> list[gate.Check]:
    """`checks` and those of the leak detector; QualityError where one of these fails, with the page."""
    for note in findings.notes:
        say(f"data set {settings.dataset.name}: {note}", kind="note")
    of_leaks = checks_of(findings, thresholds_of(settings))
    page = _page_of_refusal([*checks, *of_leaks], rows, looks, settings, leaks=findings.shown())
    failed = [check.name for check in of_leaks if not check.passed]
    what_to_do = remedies(findings, failed, droppable=droppable(settings.dataset))
    gate.raise_on_failure(of_leaks, unreadable={}, page=page, remedies=what_to_do)
    return [*checks, *of_leaks]


def _page_of_refusal(
    checks: list[gate.Check],
    rows: Sorted,
    looks: Mapping[str, Any],
    settings: JobSettings,
    *,
    leaks: Mapping[str, Any] | None = None,
) -> Path:
    """Where the page of the last refused run lies: written if a check has failed, else taken away."""
    failed = Path(settings.features_dir) / settings.dataset.name / FAILED_PAGE
    if all(check.passed for check in checks):
        failed.unlink(missing_ok=True)
        return failed
    counts = {name: int(rows.measured[name]) for name in ("rows_in", "rows_kept", "duplicates")}
    quality = gate.report(checks, rows.quarantined, counts, leaks=leaks)
    with whole_file(failed) as path:
        path.write_text(quality_page(rows, quality, looks, settings, title="refused, nothing was published"))
    return failed


def quality_page(
    rows: Sorted, quality: Mapping[str, Any], looks: Mapping[str, Any], settings: JobSettings, *, title: str
) -> str:
    return page(
        dataset=settings.dataset,
        title=title,
        quality=quality,
        profile=looks,
        examples=examples_of_reasons(rows.quarantine, public=settings.dataset.public_examples),
        created_at=datetime.now(tz=UTC),
    )


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, group by group."""
    merged = dict(base)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _merged(merged[name], value) if both else value
    return merged
