"""What an evaluation claims, and whose evaluation it says could not be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recsys.evaluation import evaluate
from recsys.schema import InputError


def figure(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 20}


def gini(own: float | None, past: float | None, difference: dict[str, Any]) -> dict[str, Any]:
    name = "value/30d/gini"
    return {
        f"{name}/aurm": figure(own),
        f"{name}/past_spend": figure(past),
        f"{name}/aurm_minus_past_spend": difference,
    }


def test_no_claim_is_made_where_nobody_spent_more_than_another() -> None:
    (claim,) = evaluate._verdicts(gini(0.5, 0.4, figure(0.1, 0.05, 0.15)), [7, 30])
    assert claim["met"]
    assert evaluate._verdicts(gini(None, None, figure(None)), [7, 30]) == []


def test_of_two_bundles_the_one_that_cannot_be_scored_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise InputError("the model has learned until tomorrow")

    monkeypatch.setattr(evaluate, "FeatureTables", lambda **_: None)
    monkeypatch.setattr(evaluate, "load_bundle", lambda _: None)
    monkeypatch.setattr(evaluate, "evaluate_bundle", refuse)
    with pytest.raises(InputError, match=r"^second: the model has learned until tomorrow"):
        evaluate.per_user(bundle_dir=tmp_path / "second", tables_dir=tmp_path, cut=1)
