"""Every plot is one that plotly's own checker accepts."""

from __future__ import annotations

import re
from typing import Any

import plotly.graph_objects as go
import pytest

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
