"""The report as rows of text: what each table of the page says, ready for the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys.report import names
from recsys.report.compare import Comparison, Figure, Group, Standing, headline, read_figure, standings
from recsys.report.content import Report, Row
from recsys.report.names import Metric
from recsys.report.numbers import MISSING, money, percent, plain, styled
from recsys.report.suppress import SMALL_CELL, is_small, reasons_to_hide

_OUTCOMES = {
    "better": "better",
    "worse": "worse",
    "unclear": "not clear",
    "": "",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A table cell: a main text, a smaller one below it, and what to mark."""

    text: str
    small: str = ""
    is_best: bool = False
    outcome: str = ""  # better, worse, unclear or empty
    outcome_text: str = ""
    note: str = ""  # a third line


@dataclass(frozen=True, kw_only=True)
class TableRow:
    label: str
    hint: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    title: str
    header: tuple[str, ...]  # the first is the label column
    rows: tuple[TableRow, ...]
    anchor: str = ""


def figure_cell(figure: Figure | None, metric: Metric, *, currency: str, signed: bool = False) -> Cell:
    if figure is None:
        return Cell(text=MISSING)
    if figure.is_withheld:
        return Cell(text=SMALL_CELL)
    text, low, high = (
        styled(number, metric.style, currency=currency, signed=signed)
        for number in (figure.value, figure.low, figure.high)
    )
    return Cell(text=text, small=f"{low} to {high}" if figure.has_interval else "")


def difference_cell(comparison: Comparison, *, currency: str) -> Cell:
    metric = names.metric(comparison.metric)
    cell = figure_cell(comparison.difference, metric, currency=currency, signed=True)
    has_value = comparison.difference is not None and comparison.difference.value is not None
    return Cell(
        text=cell.text,
        small=cell.small or ("no interval" if has_value else ""),
        outcome=comparison.outcome,
        outcome_text=_OUTCOMES[comparison.outcome],
    )


def headline_table(report: Report) -> Table | None:
    """What | own model | best baseline | difference, over the few headline figures."""
    rows = []
    for group, comparison in headline(report.figures):
        metric = names.metric(comparison.metric)
        best = comparison.best_baseline
        base = figure_cell(comparison.figures.get(best), metric, currency=report.currency)
        if best:
            base = Cell(text=base.text, small=base.small, note=names.model_label(best))
        rows.append(
            TableRow(
                label=metric.label,
                hint=names.group_label(group.key),
                cells=(
                    figure_cell(comparison.own, metric, currency=report.currency),
                    base,
                    difference_cell(comparison, currency=report.currency),
                ),
            )
        )
    header = ("Figure", "AURM", "Best baseline", "Difference, paired")
    return Table(title="", header=header, rows=tuple(rows)) if rows else None


def group_table(group: Group, *, currency: str) -> Table:
    """Every metric of a group by every model, with the difference after the own model's column."""
    has_difference = any(comparison.difference is not None for comparison in group.comparisons)
    has_floor = any(comparison.floor is not None for comparison in group.comparisons)
    own, baselines = group.models[:1], group.models[1:]
    rows = []
    for comparison in group.comparisons:
        metric = names.metric(comparison.metric)

        def cell(model: str, *, of: Comparison = comparison, metric: Metric = metric) -> Cell:
            plain_cell = figure_cell(of.figures.get(model), metric, currency=currency)
            is_best = model == of.best_model and len(of.figures) > 1
            note = "" if group.key[0] == "ranking" else versus_own(of, model, currency=currency)
            return Cell(text=plain_cell.text, small=plain_cell.small, is_best=is_best, note=note)

        cells = [cell(model) for model in own]
        if has_difference:
            shown = difference_cell(comparison, currency=currency)
            versus = f"to {names.model_label(comparison.difference_to)}" if comparison.difference_to else ""
            cells.append(
                Cell(
                    text=shown.text,
                    small=shown.small,
                    note=versus,
                    outcome=shown.outcome,
                    outcome_text=shown.outcome_text,
                )
            )
        if has_floor:
            cells.append(floor_cell(comparison, currency=currency))
        cells += [cell(model) for model in baselines]
        rows.append(TableRow(label=metric.label, hint="", cells=tuple(cells)))
    labels = [names.model_label(model) for model in own]
    labels += ["Difference to best baseline"] if has_difference else []
    labels += ["A perfect predictor"] if has_floor else []
    labels += [names.model_label(model) for model in baselines]
    return Table(
        title=names.view_title(group.key[-1]) if group.key[0] == "ranking" else names.group_label(group.key),
        header=("Metric", *labels),
        rows=tuple(rows),
        anchor="-".join(group.key),
    )


def versus_own(comparison: Comparison, model: str, *, currency: str) -> str:
    """What the paired interval says of a challenger beside the own model; empty without one."""
    difference, outcome = comparison.differences.get(model), comparison.outcomes.get(model, "")
    if difference is None or not outcome:
        return ""
    cell = figure_cell(difference, names.metric(comparison.metric), currency=currency, signed=True)
    words = {"better": "AURM is better", "worse": "better than AURM", "unclear": "undecided"}[outcome]
    return f"{words}: AURM by {cell.text}, {cell.small}"


def floor_cell(comparison: Comparison, *, currency: str) -> Cell:
    """What a perfect predictor would show, and whether the own model can be told from one."""
    cell = figure_cell(comparison.floor, names.metric(comparison.metric), currency=currency)
    own, floor = comparison.own, comparison.floor
    note = ""
    if own is not None and own.value is not None and floor is not None and floor.high is not None:
        note = "AURM is within" if abs(own.value) <= floor.high else "AURM is above"
    return Cell(text=cell.text, small=cell.small, note=note)


def standings_table(figures: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """Challenger | where it beats the own model | where it is beaten | undecided."""
    found = standings(figures)
    rows = tuple(_standing_row(standing) for standing in found)
    header = ("Challenger", "Better than AURM on", "AURM is better on", "Undecided")
    return Table(title="", header=header, rows=rows) if rows else None


def _standing_row(standing: Standing) -> TableRow:
    lists = (standing.better, standing.worse, standing.unclear)
    cells = tuple(Cell(text=str(len(labels)), note="; ".join(labels)) for labels in lists)
    return TableRow(label=names.model_label(standing.model), hint="", cells=cells)


def value_group_tables(rows: Sequence[Row], *, currency: str) -> list[Table]:
    """One table for cohorts and one for each profile field."""
    tables = []
    for by in dict.fromkeys(str(row["by"]) for row in rows):
        part = [row for row in rows if row["by"] == by]
        metrics = sorted({m for row in part for m in row["figures"]}, key=names.metric_order)
        body = []
        for row in part:
            cells = [Cell(text=str(row["hidden"]) if row["hidden"] else plain(row["n"]))]
            for name in metrics:
                found = row["figures"].get(name)
                figure = None if found is None else read_figure(found)
                cells.append(figure_cell(figure, names.metric(name), currency=currency))
            body.append(TableRow(label=str(row["group"]), hint="", cells=tuple(cells)))
        days = names.days_label(f"{part[0]['horizon_days']}d")
        header = (names.humanise(by), "People", *(names.metric(name).label for name in metrics))
        tables.append(
            Table(title=f"By {names.humanise(by).lower()}, {days}", header=header, rows=tuple(body))
        )
    return tables


def meanings(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """(metric, what it says) for every known metric in these groups, once."""
    found: dict[str, str] = {}
    for group in groups:
        for comparison in group.comparisons:
            words = names.metric(comparison.metric.partition("@")[0])
            if words.meaning:
                found[words.label] = words.meaning
    return list(found.items())


def decile_table(rows: Sequence[Row], *, currency: str) -> Table:
    body = []
    for index, (row, why) in enumerate(zip(rows, reasons_to_hide(rows), strict=True), start=1):
        if why:
            texts = [why, MISSING, MISSING]
        else:
            texts = [
                plain(row["n"]),
                money(row["predicted"], currency=currency),
                money(row["actual"], currency=currency),
            ]
        body.append(TableRow(label=str(index), hint="", cells=tuple(Cell(text=text) for text in texts)))
    return Table(title="", header=("Tenth", "People", "Expected, mean", "Real, mean"), rows=tuple(body))


def curve_table(rows: Sequence[Row], *, x: str, predicted: str, actual: str, currency: str | None) -> Table:
    """The numbers behind a curve: money in a currency (which may be empty), or shares where it is None."""

    def text(value: Any) -> str:
        return percent(value) if currency is None else money(value, currency=currency)

    body = []
    for row, why in zip(rows, reasons_to_hide(rows), strict=True):
        texts = [why, why] if why else [text(row[predicted]), text(row[actual])]
        body.append(TableRow(label=plain(row[x]), hint="", cells=tuple(Cell(text=t) for t in texts)))
    return Table(title="", header=("Days", "Expected", "Real"), rows=tuple(body))


def coverage_table(rows: Sequence[Row]) -> Table:
    models = list(dict.fromkeys(str(row["model"]) for row in rows))
    shares = {(row["k"], str(row["model"])): row["share"] for row in rows}
    body = [
        TableRow(
            label=f"top {plain(k)}",
            hint="",
            cells=tuple(Cell(text=percent(shares.get((k, model)))) for model in models),
        )
        for k in sorted({row["k"] for row in rows})
    ]
    return Table(title="", header=("List", *map(names.model_label, models)), rows=tuple(body))


def example_people(report: Report) -> list[dict[str, Any]]:
    """Single people, so only from data declared public."""
    if not report.data_is_public:
        return []
    return [_person(example, currency=report.currency) for example in report.examples]


def _person(example: Row, *, currency: str) -> dict[str, Any]:
    recommendations = [
        {"item": str(row["item"]), "score": plain(row.get("score")), "hit": bool(row.get("hit"))}
        for row in example["recommendations"]
    ]
    value = example.get("value") or {}
    retention = {key: example[key] for key in example if str(key).startswith("retention_")}
    return {
        "label": str(example["label"]),
        "history": [
            {
                "date": str(row.get("date") or ""),
                "item": str(row["item"]),
                "value": "" if row.get("value") is None else money(row["value"], currency=currency),
            }
            for row in example["history"]
        ],
        "recommendations": recommendations,
        "num_hits": sum(row["hit"] for row in recommendations),
        "value": [
            {
                "horizon": names.days_label(f"{str(days).removesuffix('d')}d"),
                "expected": money(row.get("expected"), currency=currency),
                "actual": money(row.get("actual"), currency=currency),
            }
            for days, row in value.items()
        ],
        "retention": [
            {"horizon": names.days_label(str(key).removeprefix("retention_")), "chance": percent(chance)}
            for key, chance in retention.items()
        ],
    }


def protocol_rows(protocol: Mapping[str, object]) -> list[tuple[str, list[str]]]:
    """(name, lines) pairs; nested settings get a line each."""
    return [(names.humanise(str(key)), _protocol_lines(str(key), value)) for key, value in protocol.items()]


def _protocol_lines(key: str, value: object) -> list[str]:
    if isinstance(value, Mapping):
        return [
            f"{names.humanise(str(inner))}: {line}"
            for inner, entry in value.items()
            for line in _protocol_lines(f"{key}/{inner}", entry)
        ]
    if isinstance(value, (list, tuple)):
        return [", ".join(line for entry in value for line in _protocol_lines(key, entry))]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, (int, float)):
        return [SMALL_CELL if "num_users" in key and is_small(value) else plain(value)]
    return [MISSING if value is None or value == "" else str(value)]
