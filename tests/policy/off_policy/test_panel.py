"""The panel: the same figures as its parts, nothing estimated where refused, plain enough for JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recsys.policy.off_policy import sequences, single_step
from recsys.policy.off_policy.bounds import bootstrap_bounds, t_bounds
from recsys.policy.off_policy.panel import PanelConfig, decision_panel, sequence_panel
from recsys.policy.off_policy.refusal import OverlapRules
from recsys.schema import InputError
from tests.policy.off_policy.worlds import DecisionWorld, SequenceWorld

CONFIG = PanelConfig(num_resamples=200, most_reward=1.0)
DECISIONS = DecisionWorld.make()
SEQUENCES = SequenceWorld.make()


def test_decisions() -> None:
    log = DECISIONS.log(seed=0, num_users=500, target_TA=DECISIONS.target(6.0))
    found = decision_panel(log, config=CONFIG, rules=OverlapRules())
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["refused"] == []
    assert set(found["estimates"]) == {"ips", "snips", "dm", "dr", "sndr", "switch_dr", "dr_shrunk"}
    gain = single_step.snips(log).minus(single_step.logged(log))
    by_bootstrap = bootstrap_bounds(gain, num_resamples=200)
    shown = found["estimates"]["snips"]["gain"]
    assert shown["value"] == gain.value
    assert (shown["low"], shown["high"]) == (
        by_bootstrap["percentile"].interval.low,
        by_bootstrap["percentile"].interval.high,
    )
    assert shown["lower"] == {
        "percentile": by_bootstrap["percentile"].lower,
        "studentised": by_bootstrap["studentised"].lower,
        "t": t_bounds(gain).lower,
    }
    assert found["bernstein"]["gain_lower"] < gain.value


def test_without_a_reward_model_or_a_known_range_the_panel_is_shorter() -> None:
    log = DECISIONS.log(seed=0, num_users=500, target_TA=DECISIONS.target(6.0), with_model=False)
    found = decision_panel(log, config=PanelConfig(num_resamples=100), rules=OverlapRules())
    assert set(found["estimates"]) == {"ips", "snips"}
    assert "bernstein" not in found


def test_nothing_is_estimated_where_the_overlap_is_too_small() -> None:
    log = DECISIONS.log(seed=0, num_users=50, target_TA=DECISIONS.target(6.0))
    found = decision_panel(log, config=CONFIG, rules=OverlapRules())
    assert found["refused"][0].startswith("50 users are fewer than 100")
    assert found["estimates"] == {}
    assert "bernstein" not in found


def test_long_sequences_leave_fitted_q_where_importance_sampling_is_refused() -> None:
    log = SEQUENCES.log(seed=0, num_users=500, target_GA=SEQUENCES.target(4.0))
    found = sequence_panel(
        log.sequences,
        config=CONFIG,
        rules=OverlapRules(),
        features_SHD=log.features_SHD,
        expected_features_SHD=log.expected_features_SHD,
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert "the effective sample size is" in found["importance_sampling"]["refused"][0]
    assert found["importance_sampling"]["estimates"] == {}
    assert set(found["fitted_q"]["estimates"]) == {"fitted_q"}


def test_sequences_without_features_are_sampled_only() -> None:
    log = SEQUENCES.log(seed=0, num_users=500, target_GA=SEQUENCES.target(1.0)).sequences
    found = sequence_panel(log, config=CONFIG, rules=OverlapRules())
    assert set(found) == {"importance_sampling"}
    shown = found["importance_sampling"]["estimates"]
    assert set(shown) == {"per_decision_is", "self_normalised", "whole_is"}
    assert shown["self_normalised"]["value"] == sequences.self_normalised(log).value


def test_a_deterministic_log_is_refused_whatever_the_rules() -> None:
    log = DECISIONS.log(seed=0, num_users=500, target_TA=DECISIONS.target(6.0), with_model=False)
    certain = {name: getattr(log, name) for name in log.__dataclass_fields__}
    certain |= {"propensity_R": np.ones(len(log.user_R))}
    found = decision_panel(type(log)(**certain), config=CONFIG, rules=OverlapRules(min_effective_share=0.001))
    assert len(found["refused"]) == 1
    assert "deterministic" in found["refused"][0]


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match=r"panel\.level=1.0 does not fit"):
        PanelConfig(level=1.0)
