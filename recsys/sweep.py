"""What a sweep of training runs looks at, and the runs no other one beats, as a table and a plot."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.disk import whole_file
from recsys.schema import InputError


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a sweep: its figures in the order of the objectives, and whether no other run beats it."""

    number: int
    values: tuple[float, ...]
    settings: dict[str, Any]
    in_front: bool


def sweep_result(metrics: Path, names: Sequence[str]) -> float | tuple[float, ...] | None:
    """The named figures of a metrics.json: a number for one name, a tuple for several, None for none.

    Raises InputError for a figure that is not there or has no value.
    """
    figures = json.loads(metrics.read_text())["figures"]
    for name in names:
        if figures.get(name, {}).get("value") is None:
            like = [known for known in figures if known.rsplit("/", 1)[-1] == "aurm"]
            raise InputError(f"returns: {name} is not a figure of {metrics}; known are {', '.join(like)}")
    values = tuple(float(figures[name]["value"]) for name in names)
    return values[0] if len(values) == 1 else values or None


def table_lines(runs: Sequence[Run], objectives: Sequence[str]) -> list[str]:
    """The front, best in the first objective first, as lines of text."""
    front = sorted((run for run in runs if run.in_front), key=lambda run: run.values, reverse=True)
    settings = list(front[0].settings) if front else []
    rows = [["run", *objectives, *settings]]
    for run in front:
        values = [f"{value:.4f}" for value in run.values]
        rows.append([str(run.number), *values, *(_short(run.settings[name]) for name in settings)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def write_front(folder: Path, runs: Sequence[Run], objectives: Sequence[str]) -> None:
    """pareto.csv: every run; pareto.html: the first two objectives of every run, the front joined."""
    settings = list(runs[0].settings)
    with whole_file(folder / "pareto.csv") as building, building.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "in_front", *objectives, *settings])
        for run in runs:
            writer.writerow(
                [run.number, run.in_front, *run.values, *(run.settings[name] for name in settings)]
            )
    with whole_file(folder / "pareto.html") as building:
        building.write_text(_plot(runs, objectives), encoding="utf-8")


def _plot(runs: Sequence[Run], objectives: Sequence[str]) -> str:
    import plotly.graph_objects as go  # slow to import

    figure = go.Figure()
    for name, mode, chosen in (
        ("all runs", "markers", [run for run in runs if not run.in_front]),
        ("front", "lines+markers", sorted((run for run in runs if run.in_front), key=lambda run: run.values)),
    ):
        figure.add_scatter(
            name=name,
            mode=mode,
            x=[run.values[0] for run in chosen],
            y=[run.values[1] for run in chosen],
            text=[
                f"run {run.number}<br>" + "<br>".join(f"{k}={_short(v)}" for k, v in run.settings.items())
                for run in chosen
            ],
        )
    figure.update_layout(xaxis_title=objectives[0], yaxis_title=objectives[1], template="plotly_white")
    return figure.to_html(include_plotlyjs=True)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
