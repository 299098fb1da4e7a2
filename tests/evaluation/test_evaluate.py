"""What an evaluation claims, and whose evaluation it says could not be had."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recsys.data.cut_tables import CutTable
from recsys.evaluation import evaluate
from recsys.evaluation.value import Estimates
from recsys.schema import InputError, MisfitError


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
    assert claim["claim"] == "Gini of 30-day spend: above past spend"
    assert evaluate._verdicts(gini(None, None, figure(None)), [7, 30]) == []


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        ("ease", "EASE"),
        ("item_knn", "item-kNN"),
        ("repeat_purchase", "repeat purchases"),
        ("most_popular_30d", "most popular, 30 days"),
    ],
)
def test_a_claim_names_the_baseline_as_the_tables_do(baseline: str, words: str) -> None:
    name = "ranking/all/ndcg@10"
    figures = {
        f"{name}/aurm": figure(0.5),
        f"{name}/{baseline}": figure(0.4),
        f"{name}/aurm_minus_{baseline}": figure(0.1, 0.05, 0.15),
    }
    (claim,) = evaluate._verdicts(figures, [])
    assert claim["claim"] == f"NDCG@10 over all items: above {words}"


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

    def misfit(**_: Any) -> None:
        raise MisfitError("the tables have 1 profile_fields")

    monkeypatch.setattr(evaluate, "evaluate_bundle", misfit)
    with pytest.raises(MisfitError, match=r"^second: the tables have 1 profile_fields"):
        evaluate.per_user(bundle_dir=tmp_path / "second", tables_dir=tmp_path, cut=1)


def cut_table(observed_days: list[float]) -> CutTable:
    """Three users, the last without a history; spend of 7, 30 and 90 days as far as it was seen."""
    num_users, counts = len(observed_days), np.zeros((len(observed_days), 3), np.int64)
    return CutTable(
        cut=1_000,
        user_index=np.arange(1, num_users + 1),
        prefix_length=np.array([5, 2, 0]),
        activity=np.zeros((num_users, 1)),
        profile=np.zeros((num_users, 0), np.int64),
        spend=np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]),
        num_purchases=counts,
        num_active_days=counts,
        next_active_days=np.full(num_users, np.inf),
        observed_days=np.array(observed_days),
    )


@pytest.mark.parametrize(
    ("observed_days", "horizon_days", "actual", "predicted"),
    [
        ([90.0, 90.0, 0.0], 90, [3.0, 6.0, np.nan], [30.0, 60.0, 90.0]),
        ([90.0, 89.0, 90.0], 30, [2.0, 5.0, np.nan], [20.0, 50.0, 80.0]),
        ([6.0, 6.0, 6.0], None, [np.nan, np.nan, np.nan], [10.0, 40.0, 70.0]),
    ],
)
def test_promotion_judges_the_longest_horizon_that_was_watched_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
    observed_days: list[float],
    horizon_days: int | None,
    actual: list[float],
    predicted: list[float],
) -> None:
    table = cut_table(observed_days)
    tables = SimpleNamespace(
        version="t", has_value=True, horizons_days=[7, 30, 90], metadata={"split": {"hash": "s"}}
    )
    evaluation = SimpleNamespace(
        table=table,
        ranked=SimpleNamespace(views=[SimpleNamespace(rows=np.array([0]))]),
        ndcg10={"all": np.array([0.5])},
        estimates=Estimates(table.spend * 10, None, None),
    )
    monkeypatch.setattr(evaluate, "FeatureTables", lambda **_: tables)
    monkeypatch.setattr(evaluate, "load_bundle", lambda _: None)
    monkeypatch.setattr(evaluate, "evaluate_bundle", lambda **_: evaluation)
    found = evaluate.per_user(bundle_dir=Path("mine"), tables_dir=Path("tables"), cut=1_000)
    assert found.horizon_days == horizon_days
    np.testing.assert_array_equal(found.spend_actual_U, actual)
    np.testing.assert_array_equal(found.spend_predicted_U, predicted)


def test_promotion_needs_no_challenger_floor_or_baseline(
    tiny_bundle: Path, tiny_tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("promotion does not read this")

    for name in ("value_figures", "ranking_baselines", "watched_cuts"):
        monkeypatch.setattr(evaluate, name, refuse)
    found = evaluate.per_user(bundle_dir=tiny_bundle, tables_dir=tiny_tables, cut=1)
    assert np.isfinite(found.ndcg10_U).any()
    assert found.spend_predicted_U is not None
    assert np.isfinite(found.spend_predicted_U).all()
