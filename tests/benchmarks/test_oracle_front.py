"""The oracles' own front: its NDCG by hand, and a run at a size that says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.oracle_front import ndcg_of
from tests import tiny


def test_rows_that_bought_nothing_do_not_count() -> None:
    shown = np.array([[4, 2, *range(10, 18)], [7, 8, *range(20, 28)], [3, 5, *range(10, 18)]])
    bought = [np.array([2]), np.array([], np.int64), np.array([3, 5])]
    found = ndcg_of({"one": [shown[:2], shown[2:]]}, bought)["one"]
    np.testing.assert_allclose(found, [1 / np.log2(3), 1.0])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_myopic_oracle_is_what_losses_and_gains_are_counted_from(tmp_path: Path) -> None:
    small = ("--users", "200", "--items", "40", "--weights", "0.2", "0.4", "--state", str(tmp_path / "s.npz"))
    run = ("-m", "benchmarks.oracle_front", "--seeds", "1", "2", *small)
    said = tiny.run(*run, cwd=tiny.ROOT, timeout=500).stdout
    figures = json.loads(said.splitlines()[-1])
    for seed in ("1", "2"):
        rows = figures[seed]
        assert rows["myopic_revenue"]["share"] == 0
        assert rows["myopic_revenue"]["by_day/loss/value"] == 0
        assert max(rows[f"value_aware_{weight}"]["share"] for weight in (0.2, 0.4)) == 1
        for view in ("by_user", "by_day"):
            row, base = rows["value_aware_0.4"], rows["myopic_revenue"][f"{view}/ndcg"]
            assert row[f"{view}/loss/value"] == pytest.approx(1 - row[f"{view}/ndcg"] / base)
    shares = [figures[seed]["value_aware_0.2"]["share"] for seed in ("1", "2")]
    assert figures["mean"]["value_aware_0.2"]["share"] == pytest.approx(sum(shares) / 2)
