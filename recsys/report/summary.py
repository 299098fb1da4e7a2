"""The short table that a terminal shows: the headline figures next to the best baseline."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from recsys.report import names
from recsys.report.compare import Comparison, Figure, headline, standings
from recsys.report.content import OWN_MODEL
from recsys.report.numbers import styled
from recsys.report.suppress import SMALL_CELL

MAX_COLUMNS = 100
_LONGEST_NAME = 11
_WORDS = {"better": "yes", "worse": "no", "unclear": "maybe", "": "-"}


def summary_lines(
    figures: Mapping[str, Mapping[str, Any]],
    *,
    verdicts: Sequence[Mapping[str, Any]] = (),
    currency: str = "",
    confidence: float = 0.95,
) -> list[str]:
    """Lines of at most 100 columns: a row a headline figure, then a line a verdict with yes or no.

    `better` says yes where the paired interval of the difference lies wholly on the good side, no where it
    lies wholly on the bad side, maybe where it holds zero, and - where there is no interval.
    """
    chosen = headline(figures)
    if not chosen:
        return ["no figures", *_verdict_lines(verdicts)]
    own = names.model_label(OWN_MODEL)
    header = ["", own, "baseline", "", f"{own} minus it", "better"]
    cells = [_cells(comparison, currency=currency) for _, comparison in chosen]
    widths = [max(len(row[column]) for row in [header, *cells]) for column in range(len(header))]
    lines = [
        f"Figures beside the best baseline of each row, {confidence:.0%} intervals",
        _join(header, widths),
    ]
    last_group = None
    for (group, _), row in zip(chosen, cells, strict=True):
        if group.key != last_group:
            lines.append(names.group_label(group.key))
            last_group = group.key
        lines.append(_join(row, widths))
    lines += _standing_lines(figures)
    return [line[:MAX_COLUMNS] for line in [*lines, *_verdict_lines(verdicts)]]


def _cells(comparison: Comparison, *, currency: str) -> list[str]:
    metric = names.metric(comparison.metric)

    def text(figure: Figure | None, *, signed: bool = False) -> str:
        if figure is None:
            return "-"
        if figure.is_withheld:
            return SMALL_CELL
        value, low, high = (
            styled(number, metric.style, currency=currency, signed=signed and number is figure.value)
            for number in (figure.value, figure.low, figure.high)
        )
        shown = f"{value} {low}..{high}" if figure.has_interval else value
        return shown.replace("−", "-").replace("–", "-")

    best = comparison.best_baseline
    return [
        f" {metric.label}",
        text(comparison.own),
        names.short_model_label(best)[:_LONGEST_NAME] if best else "-",
        text(comparison.figures.get(best)),
        text(comparison.difference, signed=True),
        _WORDS[comparison.outcome],
    ]


def _join(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _standing_lines(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence a challenger: on what it is better than the model, and how often not."""
    lines = []
    for standing in standings(figures):
        wins = ", ".join(label.replace(", ", " ") for label in standing.better) or "nothing"
        text = (
            f"{names.model_label(standing.model)} is better than AURM on {wins}; "
            f"AURM is better on {len(standing.worse)} figures, {len(standing.unclear)} are undecided"
        )
        lines += textwrap.wrap(text, width=MAX_COLUMNS, subsequent_indent="     ")
    return ["", *lines] if lines else []


def _verdict_lines(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [""] if verdicts else []
    for verdict in verdicts:
        text = f"{'yes' if verdict['met'] else 'no':3}  {verdict['claim']}: {verdict['detail']}"
        lines += textwrap.wrap(text, width=MAX_COLUMNS, subsequent_indent=" " * 5)
    return lines
