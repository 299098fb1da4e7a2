"""When a challenger is promoted and when refused; figures are chosen so that the answer is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from recsys.promotion.verdict import PromotionRules, judge
from recsys.schema import InputError

NUM_USERS = 400
RULES = PromotionRules(
    ndcg_relative_margin=0.05,
    gini_margin=0.05,
    max_abs_bias=0.10,
    min_users=100,
    num_resamples=200,
    seed=0,
)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A bundle's evaluation, made up."""

    ndcg10_U: np.ndarray
    spend_actual_U: np.ndarray | None
    spend_predicted_U: np.ndarray | None
    user_index_U: np.ndarray
    cut: int = 1_300_000_000
    table_version: str = "tables-1"
    split_hash: str = "split-1"
    horizon_days: int | None = 60


@pytest.fixture
def champion() -> Figures:
    """NDCG@10 of 0.4 on average; spend 1..400, predicted right."""
    spend_U = np.random.default_rng(0).permutation(np.arange(1.0, NUM_USERS + 1))
    return Figures(
        ndcg10_U=np.tile([0.2, 0.6], NUM_USERS // 2),
        spend_actual_U=spend_U,
        spend_predicted_U=spend_U,
        user_index_U=np.arange(1, NUM_USERS + 1),
    )


def test_a_newer_equal_is_promoted(champion: Figures) -> None:
    verdict = judge(challenger=champion, champion=champion, rules=RULES)
    assert verdict.promote
    assert [reason.split(":")[0] for reason in verdict.reasons] == [
        "NDCG@10",
        "value Gini over 60 days",
        "value bias over 60 days",
    ]
    assert "0.4000 against 0.4000, difference +0.0000" in verdict.reasons[0]


@pytest.mark.parametrize(("loss", "promoted"), [(0.019, True), (0.021, False)])
def test_ndcg_may_lose_the_margin_and_no_more(champion: Figures, loss: float, promoted: bool) -> None:
    """A loss that is the same for every user has an interval without width; 5% of 0.4 is 0.02."""
    challenger = replace(champion, ndcg10_U=champion.ndcg10_U - loss)
    verdict = judge(challenger=challenger, champion=champion, rules=RULES)
    assert verdict.promote is promoted
    assert verdict.reasons[0].startswith("NDCG@10")
    assert "may lose 0.0200" in verdict.reasons[0]


def test_doubt_counts_against_the_challenger(champion: Figures) -> None:
    """Equal on average, but the interval of +-0.4 over 400 users reaches about 0.039 below."""
    swing_U = np.random.default_rng(1).permutation(np.tile([-0.4, 0.4], NUM_USERS // 2))
    challenger = replace(champion, ndcg10_U=champion.ndcg10_U + swing_U)
    assert not judge(challenger=challenger, champion=champion, rules=RULES).promote


def test_a_random_order_of_value_is_refused(champion: Figures) -> None:
    shuffled_U = np.random.default_rng(2).permutation(champion.spend_predicted_U)
    verdict = judge(
        challenger=replace(champion, spend_predicted_U=shuffled_U), champion=champion, rules=RULES
    )
    assert not verdict.promote
    assert verdict.reasons[0].startswith("value Gini")
    assert "against 1.0000" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("champion_factor", "challenger_factor", "promoted"),
    [
        (1.0, 1.09, True),
        (1.0, 0.91, True),
        (1.0, 1.11, False),
        (1.0, 0.89, False),
        (1.3, 1.25, True),
        (1.3, 0.75, True),
        (1.3, 1.35, False),
    ],
)
def test_bias_is_bounded_by_the_rule_or_by_the_champions_own(
    champion: Figures, champion_factor: float, challenger_factor: float, promoted: bool
) -> None:
    actual_U = champion.spend_actual_U
    verdict = judge(
        challenger=replace(champion, spend_predicted_U=actual_U * challenger_factor),
        champion=replace(champion, spend_predicted_U=actual_U * champion_factor),
        rules=RULES,
    )
    assert verdict.promote is promoted


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cut": 1}, "evaluated on cut 1, the champion on 1300000000"),
        ({"table_version": "tables-2"}, "on table version tables-2, the champion on tables-1"),
        ({"split_hash": "split-2"}, "on split split-2, the champion on split-1"),
        ({"user_index_U": np.arange(2, NUM_USERS + 2)}, "different users"),
        ({"ndcg10_U": np.r_[np.nan, np.full(NUM_USERS - 1, 0.4)]}, "ranking targets for different users"),
        ({"spend_actual_U": np.arange(1.0, NUM_USERS + 1)}, "different actual spend"),
    ],
)
def test_evaluations_that_differ_in_more_than_the_model_are_not_compared(
    champion: Figures, changes: dict[str, object], reason: str
) -> None:
    verdict = judge(challenger=replace(champion, **changes), champion=champion, rules=RULES)
    assert not verdict.promote
    assert verdict.reasons[0].startswith("cannot be compared: ")
    assert reason in verdict.reasons[0]


def test_users_without_targets_or_without_a_whole_horizon_are_left_out(champion: Figures) -> None:
    unseen_U = np.arange(NUM_USERS) % 4 == 0
    partly = replace(
        champion,
        ndcg10_U=np.where(unseen_U, np.nan, 0.5),
        spend_actual_U=np.where(unseen_U, np.nan, champion.spend_actual_U),
    )
    verdict = judge(challenger=partly, champion=partly, rules=RULES)
    assert verdict.promote
    assert "0.5000 against 0.5000" in verdict.reasons[0]
    few = judge(challenger=partly, champion=partly, rules=replace(RULES, min_users=301))
    assert few.reasons == (
        "NDCG@10: 300 users have targets, fewer than min_users=301",
        "value over 60 days: 300 users were observed, fewer than min_users=301",
    )


def test_without_a_horizon_watched_to_its_end_there_is_no_verdict_on_value(champion: Figures) -> None:
    cut_off = replace(champion, horizon_days=None, spend_actual_U=np.full(NUM_USERS, np.nan))
    for other in (None, cut_off):
        verdict = judge(challenger=cut_off, champion=other, rules=RULES)
        assert not verdict.promote
        assert verdict.reasons[0].startswith("value: no horizon was watched to its end")


def test_the_first_champion_is_promoted_and_says_so(champion: Figures) -> None:
    verdict = judge(challenger=champion, champion=None, rules=RULES)
    assert verdict.promote
    assert verdict.reasons == (
        "there is no champion yet: judged without a comparison",
        "NDCG@10: 0.4000 over 400 users",
        "value bias over 60 days: +0.0% [+0.0%, +0.0%] against no prediction to compare with, "
        "must not lie wholly beyond 10.0% (rules.max_abs_bias)",
    )


def test_the_first_champion_too_is_held_to_what_needs_no_comparison(champion: Figures) -> None:
    few = judge(challenger=champion, champion=None, rules=replace(RULES, min_users=401))
    assert not few.promote
    assert few.reasons[:2] == (
        "NDCG@10: 400 users have targets, fewer than min_users=401",
        "value over 60 days: 400 users were observed, fewer than min_users=401",
    )
    high = replace(champion, spend_predicted_U=champion.spend_actual_U * 1.2)
    biased = judge(challenger=high, champion=None, rules=RULES)
    assert not biased.promote
    assert biased.reasons[0].startswith("value bias over 60 days: +20.0%")
    moneyless = replace(champion, spend_actual_U=None, spend_predicted_U=None)
    assert judge(challenger=moneyless, champion=None, rules=RULES).promote


def test_a_bias_that_may_be_chance_does_not_count(champion: Figures) -> None:
    """One customer's order moves the total by a third: so few users cannot tell +25 % from 0."""
    actual_U = np.ones(NUM_USERS)
    actual_U[0] = NUM_USERS / 2
    predicted_U = np.full(NUM_USERS, 1.25 * actual_U.mean())
    whale = replace(champion, spend_actual_U=actual_U, spend_predicted_U=predicted_U)
    verdict = judge(challenger=whale, champion=None, rules=RULES)
    assert verdict.promote
    assert "value bias over 60 days: +25.0% [" in verdict.reasons[-1]


@pytest.mark.parametrize("field", ["ndcg10_U", "spend_predicted_U"])
def test_a_model_that_did_not_train_is_never_promoted(champion: Figures, field: str) -> None:
    broken = replace(champion, **{field: np.full(NUM_USERS, np.nan)})
    for other in (None, champion):
        verdict = judge(challenger=broken, champion=other, rules=RULES)
        assert not verdict.promote
        assert "not finite" in verdict.reasons[0]


def test_value_is_judged_as_far_as_there_is_any(champion: Figures) -> None:
    moneyless = replace(champion, spend_actual_U=None, spend_predicted_U=None)
    both = judge(challenger=moneyless, champion=moneyless, rules=RULES)
    assert both.promote
    assert both.reasons[1] == "value: none in this data set, not judged"
    gone = judge(challenger=moneyless, champion=champion, rules=RULES)
    assert not gone.promote
    assert gone.reasons[0] == "value: the challenger predicts none, the champion does"
    new = judge(challenger=champion, champion=moneyless, rules=RULES)
    assert new.promote
    assert (
        new.reasons[1]
        == "value bias over 60 days: +0.0% [+0.0%, +0.0%] against no prediction to compare with, "
        "must not lie wholly beyond 10.0% (rules.max_abs_bias)"
    )


def test_rules_that_cannot_be_meant_are_refused() -> None:
    for changes, message in (
        ({"gini_margin": -0.1}, "rules.gini_margin=-0.1"),
        ({"min_users": 0}, "min_users=0"),
    ):
        with pytest.raises(InputError, match=message):
            replace(RULES, **changes)
