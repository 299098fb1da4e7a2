"""Every plot is one that plotly's own checker accepts."""

from __future__ import annotations

import re
from typing import Any

import plotly.graph_objects as go
import pytest

from recsys.report import plots
from recsys.report.page import _content, _PlotSheet
from tests.report.sample import sample_report


def painted(part: Any) -> Any:
    """The plot with a colour for every CSS variable, as the page's script does it."""
    if isinstance(part, str):
        return re.sub(r"^var:--[a-z0-9-]+$", "#336699", part)
    if isinstance(part, list):
        return [painted(inner) for inner in part]
    if isinstance(part, dict):
        return {key: painted(inner) for key, inner in part.items()}
    return part


@pytest.fixture(scope="module")
def specs() -> dict[str, Any]:
    sheet = _PlotSheet()
    _content(sample_report(), sheet)
    return sheet.specs


def test_plotly_accepts_every_plot(specs: dict[str, Any]) -> None:
    assert specs
    for spec in specs.values():
        assert go.Figure(painted(spec)).data


def test_the_own_model_has_its_own_colour(specs: dict[str, Any]) -> None:
    first = specs["plot-1"]["data"]
    own = [trace["y"] for trace in first if trace["marker"]["color"] == "var:--own"]
    assert own == [["AURM"]]
    assert first[-1]["y"] == ["AURM"]  # last is on top
    assert first[-1]["error_x"]["array"][0] == pytest.approx(0.055 * 0.0874)


def test_a_training_chart_says_what_it_measures_and_of_whom() -> None:
    points = [(1.0, 2.0), (2.0, 1.0)]
    curves = dict.fromkeys(
        ["train/loss", "val/loss", "train/items", "train/learning_rate", "validation/ndcg@10/cold_users"],
        points,
    )
    assert [title for title, _ in plots.training_plots(curves)] == [
        "Loss, weighted sum of its parts",
        "Loss of the next items, training",
        "Learning rate, training",
        "NDCG@10, new users, validation",
    ]
