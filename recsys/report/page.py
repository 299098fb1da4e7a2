"""`report.html`: one page that opens with no network, safe to send by mail.

plotly.js is inlined once, from the plotly package. A content security policy in the page forbids it to load
anything at all. Every text from outside is escaped by the template.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jinja2

from recsys.disk import whole_file
from recsys.report import names, plots, policies, policy_plots, sections
from recsys.report.compare import Group, groups
from recsys.report.content import Report

_MAX_COHORTS = 12
_SPEND_OF_GROUPS = ("expected_mean", "actual_mean", "total_bias", "gini", "coverage90")
_RETURNS_OF_GROUPS = ("expected_return", "actual_return")
_TEMPLATE = "page.html.jinja"


def write_report(*, path: Path, report: Report) -> None:
    """Write the page; the old one stays until the new one is complete.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; nothing half-written is left.
    """
    page = render(report)
    with whole_file(path) as building:
        building.write_text(page, encoding="utf-8")


def render(report: Report) -> str:
    """The whole page as text."""
    from plotly.offline import get_plotlyjs  # slow to import, and only a page needs it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("recsys.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    source = environment.loader
    assert source is not None
    plot_sheet = _PlotSheet()
    content = _content(report, plot_sheet)
    return environment.get_template(_TEMPLATE).render(
        report=report,
        style=source.get_source(environment, "style.css")[0],
        script=source.get_source(environment, "page.js")[0],
        plotly_js=get_plotlyjs(),
        plots=plot_sheet.specs,
        view_meanings=names.VIEW_MEANINGS,
        **content,
    )


class _PlotSheet:
    """Collects plot specifications and hands out the id under which the page draws each."""

    def __init__(self) -> None:
        self.specs: dict[str, plots.Spec] = {}

    def add(self, spec: plots.Spec) -> str:
        plot_id = f"plot-{len(self.specs) + 1}"
        self.specs[plot_id] = spec
        return plot_id


def _content(report: Report, sheet: _PlotSheet) -> dict[str, Any]:
    by_head: dict[str, list[Group]] = {}
    for group in groups(report.figures):
        by_head.setdefault(group.key[0], []).append(group)

    def tables(*heads: str) -> list[sections.Table]:
        found = [group for head in heads for group in by_head.get(head, [])]
        return [sections.group_table(group, currency=report.currency) for group in found]

    def meanings(*heads: str) -> list[tuple[str, str]]:
        return sections.meanings([group for head in heads for group in by_head.get(head, [])])

    def group_tables(*metrics: str) -> list[sections.Table]:
        return sections.group_tables(report.value_groups, metrics=metrics, currency=report.currency)

    return {
        "headline": sections.headline_table(report),
        "ranking": {
            "dots": _ranking_dots(by_head.get("ranking", []), sheet),
            "groups": list(zip(by_head.get("ranking", []), tables("ranking"), strict=True)),
            "meanings": meanings("ranking"),
        },
        "beyond": {
            "tables": tables("beyond"),
            "meanings": meanings("beyond"),
            "coverage": _coverage(report, sheet),
        },
        "value": {
            "tables": tables("value"),
            "meanings": meanings("value"),
            "standings": sections.standings_table(report.figures),
            "deciles": _deciles(report, sheet),
            "pits": _pits(report, sheet),
            "groups": group_tables(*_SPEND_OF_GROUPS),
            "cohorts": _cohorts(report, sheet),
            "spend": _spend(report, sheet),
            "notes": _notes(report, "value"),
        },
        "retention": {
            "tables": tables("retention", "conversion"),
            "meanings": meanings("retention", "conversion"),
            "curve": _retention(report, sheet),
            "groups": group_tables(*_RETURNS_OF_GROUPS),
            "notes": _notes(report, "retention"),
        },
        "policies": {
            "front": _front(report, sheet),
            "panels": _panels(report, sheet),
            "meanings": policies.meanings(report.off_policy),
            "loop": _loop(report, sheet),
        },
        "training": [
            {"title": title, "plot": sheet.add(spec)}
            for title, spec in plots.training_plots(report.training_curves)
        ],
        "people": sections.example_people(report),
        "protocol": sections.protocol_rows(report.protocol),
    }


def _ranking_dots(ranking: list[Group], sheet: _PlotSheet) -> list[dict[str, Any]]:
    dots = []
    for group in ranking:
        for comparison in group.comparisons:
            if comparison.metric == "ndcg@10" and any(
                f.value is not None for f in comparison.figures.values()
            ):
                plot = sheet.add(plots.interval_plot(comparison, models=group.models))
                dots.append(
                    {"title": names.view_title(group.key[-1]), "plot": plot, "rows": len(group.models)}
                )
    return dots


def _deciles(report: Report, sheet: _PlotSheet) -> list[dict[str, Any]]:
    return [
        {
            "title": names.days_label(f"{str(horizon_days).removesuffix('d')}d"),
            "plot": sheet.add(plots.decile_plot(rows, currency=report.currency)),
            "table": sections.decile_table(rows, currency=report.currency),
        }
        for horizon_days, rows in report.decile_tables.items()
        if rows
    ]


def _spend(report: Report, sheet: _PlotSheet) -> dict[str, Any] | None:
    rows = report.spend_curve
    if not rows:
        return None
    table = sections.curve_table(
        rows, x="horizon_days", predicted="predicted_mean", actual="actual_mean", currency=report.currency
    )
    return {"plot": sheet.add(plots.spend_plot(rows, currency=report.currency)), "table": table}


def _pits(report: Report, sheet: _PlotSheet) -> list[dict[str, Any]]:
    return [
        {"title": names.days_label(f"{days}d"), "plot": sheet.add(plots.pit_plot(counts))}
        for days, counts in report.pit_histograms.items()
    ]


def _cohorts(report: Report, sheet: _PlotSheet) -> dict[str, list[dict[str, Any]]]:
    """A small plot a cohort, the largest ones where there are many."""
    largest = sorted(report.cohort_curves, key=lambda row: -row["n"])[:_MAX_COHORTS]
    shown = [row for row in report.cohort_curves if row in largest]
    return {
        name: [
            {"title": f"{row['cohort']}, {row['n']:,} people", "plot": sheet.add(draw(row[name]))}
            for row in shown
            if row[name]
        ]
        for name, draw in (
            ("spend", functools.partial(plots.spend_plot, currency=report.currency)),
            ("retention", plots.retention_plot),
        )
    }


def _retention(report: Report, sheet: _PlotSheet) -> dict[str, Any] | None:
    rows = report.retention_curve
    if not rows:
        return None
    table = sections.curve_table(rows, x="day", predicted="predicted", actual="actual", currency=None)
    return {"plot": sheet.add(plots.retention_plot(rows)), "table": table}


def _coverage(report: Report, sheet: _PlotSheet) -> dict[str, Any] | None:
    rows = report.coverage_curve
    if not rows:
        return None
    return {"plot": sheet.add(plots.coverage_plot(rows)), "table": sections.coverage_table(rows)}


def _front(report: Report, sheet: _PlotSheet) -> dict[str, Any] | None:
    table = policies.front_table(report.dial, currency=report.currency)
    if table is None:
        return None
    plot = sheet.add(policy_plots.front_plot(report.dial, currency=report.currency))
    has_gain = any(row["gain"] is not None for row in report.dial["front"])
    return {"table": table, "plot": plot, "has_gain": has_gain}


def _panels(report: Report, sheet: _PlotSheet) -> list[dict[str, Any]]:
    found = []
    for given in report.off_policy:
        panel = policies.panel(given, currency=report.currency)
        plot = None
        if panel.table is not None:
            plot = sheet.add(policy_plots.gains_plot(given, currency=report.currency))
        found.append({"panel": panel, "plot": plot})
    return found


def _loop(report: Report, sheet: _PlotSheet) -> list[dict[str, Any]]:
    return [
        {
            "world": names.humanise(world),
            "plot": sheet.add(policy_plots.loop_plot(rows, currency=report.currency)),
            "table": policies.loop_table(rows, currency=report.currency),
        }
        for world, rows in policies.loop_worlds(report.loop)
    ]


def _notes(report: Report, section: str) -> list[str]:
    return [note for note in report.notes if note.lower().startswith(section)]
