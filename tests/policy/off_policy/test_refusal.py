"""Overlap by hand, and a refusal for everything that makes an estimate not worth believing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from recsys.policy.impressions import impression_table
from recsys.policy.off_policy.from_log import decisions_from_log
from recsys.policy.off_policy.overlap import Overlap, decision_overlap, sequence_overlap, step_overlap
from recsys.policy.off_policy.refusal import OverlapRules, reasons_against
from recsys.policy.slates import PolicyConfig, draw_slates, slate_propensities
from recsys.schema import Impression, InputError, Response
from tests.policy.off_policy.test_sequences import two_sequences
from tests.policy.off_policy.test_single_step import decisions

GOOD = Overlap(
    num_users=1000,
    num_weights=4000,
    num_rewarded=400,
    effective_size=1000.0,
    mean_weight=1.02,
    mean_weight_error=0.02,
    max_weight=9.0,
    p999_weight=8.0,
    clipped_share=0.0,
    largest_share=0.003,
    unsupported_mass=0.0,
    always_certain=False,
)


def test_overlap_by_hand() -> None:
    """Weights 2, 0.5, 1."""
    found = decision_overlap(decisions(unsupported_R=np.array([0.3, 0.0, 0.0])), cap=1.5)
    assert found.effective_size == pytest.approx(3.5**2 / 5.25)
    assert found.effective_share == pytest.approx(3.5**2 / 5.25 / 3)
    assert found.mean_weight == pytest.approx(3.5 / 3)
    assert (found.num_users, found.num_weights, found.num_rewarded) == (2, 3, 3)
    assert (found.max_weight, found.largest_share) == (2.0, pytest.approx(2 / 3.5))
    assert (found.clipped_share, found.unsupported_mass) == (pytest.approx(1 / 3), pytest.approx(0.1))


def test_overlap_of_sequences_is_of_all_their_steps_and_that_of_steps_of_each() -> None:
    whole, steps = sequence_overlap(two_sequences(), cap=10), step_overlap(two_sequences(), cap=10)
    assert (whole.num_weights, whole.max_weight) == (2, 2.0)
    assert whole.effective_size == pytest.approx(3.5**2 / (4 + 2.25))
    assert (steps.num_weights, steps.max_weight) == (3, pytest.approx(3.0))


def test_a_good_log_is_not_refused() -> None:
    assert reasons_against(GOOD, OverlapRules()) == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"always_certain": True}, "deterministic"),
        ({"num_users": 99}, "99 users are fewer than 100"),
        ({"num_rewarded": 19}, "19 rewards are fewer than 20"),
        ({"effective_size": 199.0}, "4.98% of the log, below 5.00%"),
        ({"effective_size": 99.0, "num_weights": 1000}, "effective sample size is 99, below 100"),
        ({"largest_share": 0.06}, "one weight holds 6.0%"),
        ({"unsupported_mass": 0.02}, "2.0% of the target policy lies on items that were never shown"),
        ({"mean_weight": 0.8}, "weights average 0.800 with standard error 0.020, not 1"),
    ],
)
def test_each_rule_refuses_with_its_reason(changes: dict[str, float], reason: str) -> None:
    reasons = reasons_against(dataclasses.replace(GOOD, **changes), OverlapRules())
    assert any(reason in each for each in reasons), reasons


def test_rules_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match=r"rules\.min_effective_share=0.0 does not fit"):
        OverlapRules(min_effective_share=0.0)


def shown(kind: str = "plackett_luce") -> tuple[pa.Table, np.ndarray, np.ndarray, PolicyConfig]:
    """Slates of two for thirty users, whose first slot each brought one outcome worth 5."""
    rng = np.random.default_rng(0)
    scores_BV = np.hstack([np.full((30, 1), -np.inf), rng.normal(size=(30, 6))]).astype(np.float32)
    config = PolicyConfig(kind=kind, slate_size=2, exploration_floor=0.1 if kind == "plackett_luce" else 0.0)
    slates = draw_slates(scores_BV=scores_BV, user_index_B=np.arange(1, 31), config=config)
    table = impression_table(
        slates=slates,
        config=config,
        policy_version=f"{kind}-1",
        user_key_B=[f"{user:064x}" for user in range(30)],
        item_id_V=[str(item) for item in range(7)],
        timestamp=1_700_000_000,
    )
    first_R = table[Impression.SLOT].to_numpy() == 1
    table = table.append_column(Response.NUM_OUTCOMES, pa.array(first_R.astype(np.int32)))
    return table.append_column(Response.VALUE, pa.array(5.0 * first_R)), scores_BV, slates.item_BK, config


def test_a_table_of_impressions_becomes_decisions() -> None:
    table, scores_BV, item_BK, config = shown()
    target_BK = slate_propensities(scores_BV=-scores_BV, item_BK=item_BK, config=config)
    log = decisions_from_log(table, target_propensity_R=target_BK.ravel())
    assert log.num_users == 30
    np.testing.assert_array_equal(log.action_R, item_BK.ravel())
    np.testing.assert_array_equal(log.reward_R, np.tile([5.0, 0.0], 30))
    np.testing.assert_array_equal(log.weight_R, target_BK.ravel() / table[Impression.PROPENSITY].to_numpy())
    counted = decisions_from_log(
        table, target_propensity_R=target_BK.ravel(), reward_column=Response.NUM_OUTCOMES
    )
    np.testing.assert_array_equal(counted.reward_R, np.tile([1.0, 0.0], 30))


def test_slots_after_one_that_the_target_never_fills_so_weigh_nothing() -> None:
    table, scores_BV, item_BK, _ = shown()
    best = PolicyConfig(kind="deterministic", slate_size=2)
    target_BK = slate_propensities(scores_BV=scores_BV, item_BK=item_BK, config=best)
    assert np.isnan(target_BK).any()
    log = decisions_from_log(table, target_propensity_R=target_BK.ravel())
    np.testing.assert_array_equal(log.target_propensity_R == 1, (target_BK == 1).ravel())
    assert (log.target_propensity_R <= 1).all()


def test_a_log_of_a_deterministic_policy_is_refused() -> None:
    table, *_ = shown("deterministic")
    with pytest.raises(InputError, match=r"60 of 60 impressions are by a deterministic policy"):
        decisions_from_log(table, target_propensity_R=np.ones(60))
    mixed = pa.concat_tables([shown()[0], table])
    with pytest.raises(InputError, match=r"60 of 120 impressions .* \(deterministic-1\)"):
        decisions_from_log(mixed, target_propensity_R=np.ones(120))


def test_a_log_without_propensities_is_refused() -> None:
    table, *_ = shown()
    with pytest.raises(InputError, match="the log has no propensity for its rows, as logs of purchases"):
        decisions_from_log(table.drop([Impression.PROPENSITY]), target_propensity_R=np.ones(60))
    place = table.column_names.index(Impression.PROPENSITY)
    empty = table.set_column(place, Impression.PROPENSITY, pa.nulls(60, pa.float64()))
    with pytest.raises(InputError, match="the log has no propensity for its rows"):
        decisions_from_log(empty, target_propensity_R=np.ones(60))
