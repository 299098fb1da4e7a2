"""Plots as plain plotly specifications. Colours are names of CSS variables (`var:--own`), so that the page
can repaint them when the reader's light or dark scheme changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from recsys.report import names
from recsys.report.compare import Comparison
from recsys.report.content import OWN_MODEL, Row
from recsys.report.numbers import finite
from recsys.report.suppress import is_small, reasons_to_hide

Spec = dict[str, Any]

OWN, ACTUAL, BASELINE = "var:--own", "var:--actual", "var:--baseline"
SERIES = tuple(f"var:--series-{index}" for index in range(1, 6))
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def interval_plot(comparison: Comparison, *, models: Sequence[str]) -> Spec:
    """One metric: a dot a model with its interval, the own model on top and in its own colour."""
    shown = [m for m in models if (f := comparison.figures.get(m)) is not None and f.value is not None]
    traces = []
    for model in reversed(shown):
        figure = comparison.figures[model]
        assert figure.value is not None
        colour = OWN if model == OWN_MODEL else BASELINE
        trace: Spec = {
            "type": "scatter",
            "mode": "markers",
            "x": [figure.value],
            "y": [text(names.model_label(model))],
            "marker": {"color": colour, "size": 10},
            "cliponaxis": False,
            "showlegend": False,
            "hovertemplate": "%{x:.4f}<extra>%{y}</extra>",
        }
        if figure.low is not None and figure.high is not None:
            trace["error_x"] = {
                "type": "data",
                "symmetric": False,
                "array": [figure.high - figure.value],
                "arrayminus": [figure.value - figure.low],
                "color": colour,
                "thickness": 2,
                "width": 5,
            }
        traces.append(trace)
    layout = layout_of(x_title=names.metric(comparison.metric).label)
    layout["xaxis"]["rangemode"] = "tozero"
    layout["yaxis"].update(showgrid=False, ticklabelstandoff=6)
    return {"data": traces, "layout": layout}


def training_plots(curves: Mapping[str, Sequence[tuple[float, float]]]) -> list[tuple[str, Spec]]:
    """(title, plot) pairs; curves of the same thing (train/loss and val/loss) share a plot."""
    by_thing: dict[str, dict[str, Sequence[tuple[float, float]]]] = {}
    for name, points in curves.items():
        stage, _, thing = name.partition("/")
        by_thing.setdefault(thing or name, {})[stage] = points
    plots = []
    for thing, stages in by_thing.items():
        traces = []
        for index, (stage, points) in enumerate(stages.items()):
            is_training = stage.startswith("train")
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if len(points) <= 30 else "lines",
                    "name": text(names.stage_label(stage)),
                    "x": [finite(step) for step, _ in points],
                    "y": [finite(value) for _, value in points],
                    "line": {"color": ACTUAL if is_training else SERIES[index % len(SERIES)], "width": 2},
                    "marker": {"size": 5},
                    "showlegend": len(stages) > 1,
                }
            )
        title = names.curve_label(thing)
        if len(stages) == 1 and thing not in stages:  # no legend says whose it is
            title += f", {names.stage_label(next(iter(stages)))}"
        plots.append((title, {"data": traces, "layout": layout_of(x_title="step")}))
    return plots


def decile_plot(rows: Sequence[Row], *, currency: str) -> Spec:
    """Expected and real mean spend in each tenth of the users, ordered by expected spend."""
    hidden = reasons_to_hide(rows)
    labels = [str(index) for index in range(1, len(rows) + 1)]
    actual = [None if why else finite(row["actual"]) for row, why in zip(rows, hidden, strict=True)]
    predicted = [None if why else finite(row["predicted"]) for row, why in zip(rows, hidden, strict=True)]
    layout = layout_of(
        x_title="tenth of users, by expected spend",
        y_title=money_title("mean spend", currency),
        x_type="category",
    )
    layout["xaxis"].update(showgrid=False, ticklabelstandoff=6)
    layout["yaxis"]["rangemode"] = "tozero"
    expected_range = _range_of_perfect(rows, hidden, predicted)
    return {
        "data": [
            {"type": "bar", "name": "real", "x": labels, "y": actual, "marker": {"color": BASELINE}},
            {
                "type": "scatter",
                "mode": "markers",
                "name": "expected",
                "x": labels,
                "y": predicted,
                "marker": {"color": OWN, "size": 10, "symbol": "diamond"},
                "cliponaxis": False,
                **expected_range,
            },
        ],
        "layout": layout,
    }


def _range_of_perfect(rows: Sequence[Row], hidden: Sequence[str], predicted: Sequence[float | None]) -> Spec:
    """Whiskers from `low` to `high` where every shown row has them."""
    ends = [(finite(row.get("low")), finite(row.get("high"))) for row in rows]
    if any(low is None or high is None for (low, high), why in zip(ends, hidden, strict=True) if not why):
        return {}
    up, down = [], []
    for (low, high), middle in zip(ends, predicted, strict=True):
        up.append(None if middle is None or high is None else max(high - middle, 0.0))
        down.append(None if middle is None or low is None else max(middle - low, 0.0))
    whiskers = {"type": "data", "symmetric": False, "array": up, "arrayminus": down}
    return {"error_y": {**whiskers, "color": OWN, "thickness": 1.5, "width": 4}}


def pit_plot(counts: Sequence[int]) -> Spec:
    """Shares of people by the PIT of their outcome; all bars reach the line where the law is right."""
    num_bins, total = len(counts), sum(counts)
    middles = [(index + 0.5) / num_bins for index in range(num_bins)]
    layout = layout_of(x_title="where the outcome fell in its predicted law", y_title="share of people")
    layout["xaxis"].update(showgrid=False, range=[0, 1], tickformat=".1f")
    layout["yaxis"].update(rangemode="tozero", tickformat=".0%")
    bars = [None if is_small(total) else count / total for count in counts]
    return {
        "data": [
            {"type": "bar", "name": "people", "x": middles, "y": bars, "marker": {"color": BASELINE}},
            {
                "type": "scatter",
                "mode": "lines",
                "name": "a right law",
                "x": [0, 1],
                "y": [1 / num_bins, 1 / num_bins],
                "line": {"color": OWN, "width": 2, "dash": "dash"},
            },
        ],
        "layout": layout,
    }


def predicted_and_actual_plot(
    rows: Sequence[Row],
    *,
    x: str,
    predicted: str,
    actual: str,
    x_title: str,
    y_title: str,
    is_share: bool = False,
) -> Spec:
    """Two lines over time: what the model expected and what happened."""
    hidden = reasons_to_hide(rows)
    traces = []
    for key, name, colour, dash in ((actual, "real", ACTUAL, "solid"), (predicted, "expected", OWN, "dash")):
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(rows) <= 30 else "lines",
                "name": name,
                "x": [finite(row[x]) for row in rows],
                "y": [None if why else finite(row[key]) for row, why in zip(rows, hidden, strict=True)],
                "line": {"color": colour, "width": 2, "dash": dash},
                "marker": {"size": 7},
                "cliponaxis": False,
            }
        )
    layout = layout_of(x_title=x_title, y_title=y_title)
    layout["yaxis"]["rangemode"] = "tozero"
    if is_share:
        layout["yaxis"]["tickformat"] = ".0%"
    return {"data": traces, "layout": layout}


def spend_plot(rows: Sequence[Row], *, currency: str) -> Spec:
    return predicted_and_actual_plot(
        rows,
        x="horizon_days",
        predicted="predicted_mean",
        actual="actual_mean",
        x_title="days after the cut",
        y_title=money_title("spend per person", currency),
    )


def retention_plot(rows: Sequence[Row]) -> Spec:
    return predicted_and_actual_plot(
        rows,
        x="day",
        predicted="predicted",
        actual="actual",
        x_title="days after the cut",
        y_title="active again",
        is_share=True,
    )


def coverage_plot(rows: Sequence[Row]) -> Spec:
    """Share of the catalogue in anyone's top k, a line a model."""
    models = list(dict.fromkeys(str(row["model"]) for row in rows))
    baselines = [model for model in models if model != OWN_MODEL]
    traces = []
    for model in models:
        place = 0 if model == OWN_MODEL else baselines.index(model)
        colour = OWN if model == OWN_MODEL else SERIES[place % len(SERIES)]
        points = sorted(
            (finite(row["k"]) or 0, finite(row["share"])) for row in rows if row["model"] == model
        )
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": text(names.model_label(model)),
                "x": [k for k, _ in points],
                "y": [share for _, share in points],
                "line": {
                    "color": colour,
                    "width": 3 if model == OWN_MODEL else 2,
                    "dash": "solid" if model == OWN_MODEL else _DASHES[1 + place % (len(_DASHES) - 1)],
                },
                "marker": {"size": 6},
            }
        )
    layout = layout_of(x_title="length of the list, k", y_title="share of the catalogue shown")
    layout["yaxis"].update(rangemode="tozero", tickformat=".0%")
    return {"data": traces, "layout": layout}


def layout_of(*, x_title: str, y_title: str = "", x_type: str = "-") -> Spec:
    def axis(title: str, **more: Any) -> Spec:
        return {
            "title": {"text": text(title), "standoff": 8},
            "automargin": True,
            "gridcolor": "var:--line",
            "zerolinecolor": "var:--line",
            "linecolor": "var:--line",
            "fixedrange": True,
            **more,
        }

    return {
        "autosize": True,
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "var:--ink-soft"},
        "hoverlabel": {"bgcolor": "var:--card", "bordercolor": "var:--line", "font": {"color": "var:--ink"}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        "dragmode": False,
        "xaxis": axis(x_title, type=x_type, tickformat=","),
        "yaxis": axis(y_title, nticks=6, tickformat=","),
    }


def money_title(words: str, currency: str) -> str:
    return f"{words} ({currency})" if currency else words


def text(words: str) -> str:
    """Plotly reads a little HTML in its texts; ours has none."""
    return escape(words, quote=False)
