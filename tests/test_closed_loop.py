"""The closed loop at a size that says nothing, as typed: it runs through, goes on, and names its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SMALL = (
    *("-m", "benchmarks.closed_loop", "--users", "300", "--items", "60", "--seeds", "3", "--rounds", "2"),
    *(
        "--worlds",
        "default",
        "--first-days",
        "60",
        "--next-days",
        "30",
        "--value-days",
        "30",
        "--epochs",
        "1",
    ),
    *(
        "--train",
        "dial.critic.horizon_days=7",
        "model.width=16",
        "model.score_width=16",
        "model.num_blocks=1",
    ),
)


def test_two_rounds_run_through_and_are_not_run_again(tmp_path: Path) -> None:
    output = ("--output", str(tmp_path / "loop"))
    first = tiny.run(*SMALL, *output, cwd=tiny.ROOT, timeout=1500).stdout.splitlines()
    figures = json.loads(first[-1])
    for number in (1, 2):
        name = f"default/round{number}"
        assert figures[f"{name}/seeds"] == [3]
        values = figures[f"{name}/values"]
        assert figures[f"{name}/gain"] == pytest.approx(values["dialled"] - values["accuracy"], abs=0.01)
        assert figures[f"{name}/gain/low"] <= figures[f"{name}/gain"] <= figures[f"{name}/gain/high"]
        best = max(value for policy, value in values.items() if policy.startswith("value_aware"))
        attainable = best - values["myopic_revenue"]
        assert figures[f"{name}/attainable"] == pytest.approx(attainable, abs=0.01)
    results = sorted((tmp_path / "loop" / "default" / "seed3").glob("round*/result.json"))
    before = [path.stat().st_mtime_ns for path in results]
    again = tiny.run(*SMALL, *output, cwd=tiny.ROOT, timeout=100).stdout.splitlines()
    assert json.loads(again[-1]) == figures
    assert [path.stat().st_mtime_ns for path in results] == before
