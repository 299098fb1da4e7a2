"""Best models, paired differences and their outcome, by hand."""

from __future__ import annotations

import pytest

from recsys.report.compare import Comparison, Standing, groups, headline, standings


def one(figures: dict[str, dict[str, float]]) -> Comparison:
    ((comparison,),) = [group.comparisons for group in groups(figures)]
    return comparison


def value(number: float, low: float | None = None, high: float | None = None) -> dict[str, float]:
    return {"value": number, **({} if low is None or high is None else {"low": low, "high": high})}


def test_the_paired_difference_is_to_the_best_baseline() -> None:
    comparison = one(
        {
            "ranking/all/ndcg@10/ease": value(0.30),
            "ranking/all/ndcg@10/aurm": value(0.40),
            "ranking/all/ndcg@10/repeat_purchase": value(0.35),
            "ranking/all/ndcg@10/aurm_minus_ease": value(0.10, 0.08, 0.12),
            "ranking/all/ndcg@10/aurm_minus_repeat_purchase": value(0.05, -0.01, 0.11),
        }
    )
    assert (comparison.best_model, comparison.best_baseline) == ("aurm", "repeat_purchase")
    assert comparison.difference_to == "repeat_purchase"
    assert comparison.difference is not None
    assert comparison.difference.low == -0.01
    assert comparison.outcome == "unclear"


@pytest.mark.parametrize(
    ("metric", "low", "high", "outcome"),
    [
        ("ndcg@10", 0.01, 0.03, "better"),
        ("ndcg@10", -0.03, -0.01, "worse"),
        ("ndcg@10", 0.0, 0.03, "unclear"),
        ("brier", -0.03, -0.01, "better"),
        ("brier", 0.01, 0.03, "worse"),
        ("coverage@10", 0.01, 0.03, ""),
    ],
)
def test_the_outcome_knows_which_way_is_better(metric: str, low: float, high: float, outcome: str) -> None:
    base = f"retention/30d/{metric}"
    comparison = one(
        {
            f"{base}/aurm": value(0.5),
            f"{base}/other": value(0.4),
            f"{base}/aurm_minus_other": value((low + high) / 2, low, high),
        }
    )
    # a metric that is no goal has no best baseline, so no difference either
    assert comparison.outcome == outcome


def test_without_a_paired_figure_the_difference_has_no_interval() -> None:
    comparison = one({"value/30d/gini/aurm": value(0.75), "value/30d/gini/past_spend": value(0.5)})
    assert comparison.difference is not None
    assert (comparison.difference.value, comparison.difference.has_interval) == (0.25, False)
    assert comparison.outcome == ""


def test_the_least_biased_model_is_the_one_nearest_zero() -> None:
    comparison = one(
        {
            "value/30d/total_bias/aurm": value(-0.05),
            "value/30d/total_bias/past_spend": value(0.04),
            "value/30d/total_bias/bg_nbd_gamma_gamma": value(-0.30),
        }
    )
    assert comparison.best_model == "past_spend"
    assert comparison.difference is None


def test_biases_are_compared_by_their_sizes() -> None:
    comparison = one(
        {
            "value/30d/total_bias/aurm": value(-0.05),
            "value/30d/total_bias/past_spend": value(0.10),
            "value/30d/total_bias/aurm_minus_past_spend": value(-0.05, -0.08, -0.02),
        }
    )
    assert comparison.outcome == "better"
    assert comparison.outcomes == {"past_spend": "better"}


def test_the_floor_is_no_model() -> None:
    comparison = one(
        {
            "value/30d/decile_mape/aurm": value(0.2),
            "value/30d/decile_mape/past_spend": value(0.3),
            "value/30d/decile_mape/floor": value(0.1, 0.05, 0.15),
        }
    )
    assert set(comparison.figures) == {"aurm", "past_spend"}
    assert (comparison.best_model, comparison.best_baseline) == ("aurm", "past_spend")
    assert comparison.floor is not None
    assert comparison.floor.high == 0.15


def test_standings_tell_of_every_challenger_where_it_wins() -> None:
    figures = {
        "value/90d/gini/gbm": value(0.8),
        "value/90d/gini/aurm_minus_gbm": value(-0.02, -0.03, -0.01),
        "value/90d/decile_mape/gbm": value(0.3),
        "value/90d/decile_mape/aurm_minus_gbm": value(-0.1, -0.2, -0.05),
        "value/90d/gini/past_spend": value(0.7),
        "value/90d/gini/aurm_minus_past_spend": value(0.01, -0.01, 0.03),
        "retention/30d/auc/gbm": value(0.7),
        "retention/30d/auc/aurm_minus_gbm": value(0.0, -0.01, 0.01),
        "ranking/all/ndcg@10/ease": value(0.2),
        "ranking/all/ndcg@10/aurm_minus_ease": value(0.1, 0.05, 0.2),
    }
    assert standings(figures) == [
        Standing(
            model="gbm",
            better=("Gini, 90 days",),
            worse=("Decile error, 90 days",),
            unclear=("AUC, retention 30 days",),
        ),
        Standing(model="past_spend", better=(), worse=(), unclear=("Gini, 90 days",)),
    ]


def test_figures_about_few_people_are_withheld_and_never_best() -> None:
    comparison = one(
        {
            "ranking/cold_users/ndcg@10/aurm": {"value": 0.9, "low": 0.8, "high": 1.0, "n": 9},
            "ranking/cold_users/ndcg@10/most_popular": {"value": 0.1, "n": 10},
        }
    )
    assert comparison.own is not None
    assert comparison.own.value is None
    assert comparison.own.is_withheld
    assert comparison.best_model == "most_popular"
    assert comparison.difference is None


def test_metrics_are_in_a_reading_order_and_the_own_model_comes_first() -> None:
    names = ["precision@50", "mrr@10", "ndcg@50", "hr@10", "odd_one"]
    figures = {f"ranking/all/{name}/{model}": value(0.1) for name in names for model in ("ease", "aurm")}
    (group,) = groups(figures)
    assert [c.metric for c in group.comparisons] == ["odd_one", "hr@10", "mrr@10", "ndcg@50", "precision@50"]
    assert group.models == ("aurm", "ease")


def test_the_headline_holds_the_few_figures_that_matter() -> None:
    names = [
        "ranking/all/ndcg@10",
        "ranking/all/mrr@50",
        "value/90d/gini",
        "value/90d/decile_mape",
        "beyond/ild@10",
    ]
    figures = {f"{name}/aurm": value(0.1) for name in names}
    assert [c.metric for _, c in headline(figures)] == ["ndcg@10", "gini"]
