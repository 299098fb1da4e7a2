"""Plots of what a change of policy costs and earns, as plotly specifications (see `plots`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recsys.report.content import Row
from recsys.report.numbers import finite
from recsys.report.plots import ACTUAL, BASELINE, OWN, SERIES, Spec, layout_of, money_title, text
from recsys.report.policies import GAIN_SLOTS, dial_text, estimate_label, loop_values, place_of


def front_plot(dial: Row, *, currency: str) -> Spec:
    """NDCG lost against the gain, or against value@10 where no gain is known; a diamond is the default."""
    rows = list(dial["front"])
    has_gain = any(row["gain"] is not None for row in rows)
    if has_gain:  # the dial at 0 is the policy that logged, which gains nothing over itself
        rows = [row for row in rows if row["gain"] is not None or row["dial"] == 0]
    points = [_scaled(row["gain"]) or 0.0 if has_gain else finite(row["value@10"]) for row in rows]
    is_default = [row["dial"] == dial["default"] for row in rows]
    trace: Spec = {
        "type": "scatter",
        "mode": "lines+markers+text",
        "name": "dial",
        "x": [finite(row["ndcg_loss"]) for row in rows],
        "y": points,
        "text": [text(dial_text(row["dial"])) for row in rows],
        "textposition": "top left",
        "line": {"color": BASELINE, "width": 1},
        "marker": {
            "color": [OWN if chosen else ACTUAL for chosen in is_default],
            "size": [13 if chosen else 8 for chosen in is_default],
            "symbol": ["diamond" if chosen else "circle" for chosen in is_default],
        },
        "cliponaxis": False,
        "showlegend": False,
        "hovertemplate": "dial %{text}: %{x:.2%} lost, %{y:.4g}<extra></extra>",
    }
    if has_gain:
        trace["error_y"] = _whiskers(
            [tuple(_scaled(row[end]) for end in ("gain", "gain_low", "gain_high")) for row in rows]
        )
    y_title = money_title("gain, 1,000 slots", currency) if has_gain else "value@10"
    layout = layout_of(x_title="NDCG@10 lost", y_title=y_title)
    layout["xaxis"]["tickformat"] = ".1%"
    layout["yaxis"]["tickformat"] = "" if has_gain else ".1%"
    return {"data": [trace], "layout": layout}


def gains_plot(found: Row, *, currency: str) -> Spec:
    """The gain by every estimate with its interval; further right is better, across 0 is undecided. DM, whose
    noise is that of its reward model alone, would hide the others.
    """
    estimates: Mapping[str, Mapping[str, Any]] = found["estimates"]
    names = sorted(set(estimates) - {"dm"}, key=place_of, reverse=True)
    gains = [estimates[name]["gain"] for name in names]
    trace: Spec = {
        "type": "scatter",
        "mode": "markers",
        "x": [_scaled(gain["value"]) for gain in gains],
        "y": [text(estimate_label(name)) for name in names],
        "error_x": _whiskers(
            [tuple(_scaled(gain[end]) for end in ("value", "low", "high")) for gain in gains]
        ),
        "marker": {"color": [OWN if name == "dr" else BASELINE for name in names], "size": 10},
        "cliponaxis": False,
        "showlegend": False,
        "hovertemplate": "%{x:.4g}<extra>%{y}</extra>",
    }
    layout = layout_of(x_title=money_title("gain, 1,000 slots", currency))
    layout["xaxis"].update(
        rangemode="tozero", zeroline=True, zerolinecolor=ACTUAL, zerolinewidth=2, tickformat=""
    )
    layout["yaxis"].update(showgrid=False, ticklabelstandoff=6, nticks=2 * len(names))
    return {"data": [trace], "layout": layout}


def loop_plot(rows: Sequence[Row], *, currency: str) -> Spec:
    """The true value of every policy, a line each over the rounds."""
    labels = list(dict.fromkeys(label for row in rows for label in loop_values(row)))
    traces = []
    for place, label in enumerate(labels):
        is_own = place == 0
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": text(label),
                "x": [row["round"] for row in rows],
                "y": [finite(loop_values(row).get(label)) for row in rows],
                "line": {
                    "color": OWN if is_own else SERIES[(place - 1) % len(SERIES)],
                    "width": 3 if is_own else 2,
                    "dash": "solid" if is_own else "dot",
                },
                "marker": {"size": 8},
                "cliponaxis": False,
            }
        )
    layout = layout_of(x_title="round", y_title=money_title("true value a user", currency))
    layout["xaxis"].update(tickmode="linear", dtick=1, tickformat="d")
    return {"data": traces, "layout": layout}


def _scaled(gain: Any) -> float | None:
    number = finite(gain)
    return None if number is None else number * GAIN_SLOTS


def _whiskers(figures: Sequence[tuple[Any, ...]]) -> Spec:
    up, down = [], []
    for value, low, high in figures:
        middle, least, most = finite(value), finite(low), finite(high)
        up.append(None if middle is None or most is None else max(most - middle, 0.0))
        down.append(None if middle is None or least is None else max(middle - least, 0.0))
    whiskers = {"type": "data", "symmetric": False, "array": up, "arrayminus": down}
    return {**whiskers, "color": BASELINE, "thickness": 1.5, "width": 4}
