"""Every estimate of a target policy with its intervals, lower bounds and overlap, as one plain dict.

A policy is judged by the lower bound of its paired gain over the policy that logged, never by a point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.policy.off_policy import sequences as sequence
from recsys.policy.off_policy import single_step
from recsys.policy.off_policy.bounds import bootstrap_bounds, t_bounds
from recsys.policy.off_policy.clipped import clipped_lower
from recsys.policy.off_policy.contributions import Contributions
from recsys.policy.off_policy.decisions import Decisions
from recsys.policy.off_policy.fitted_q import fitted_q
from recsys.policy.off_policy.overlap import Overlap, decision_overlap, sequence_overlap, step_overlap
from recsys.policy.off_policy.refusal import OverlapRules, reasons_against
from recsys.policy.off_policy.sequences import Sequences
from recsys.settings import check_range


@dataclass(frozen=True, kw_only=True)
class PanelConfig:
    """How estimates are made. Raises InputError for what cannot be.

    `weight_cap` bounds what one decision may weigh in `switch_dr` and in the empirical Bernstein bound;
    `shrinkage` is that of `dr_shrunk`. `most_reward` is the known upper end of a decision's reward, whose
    lower end is 0; null leaves the empirical Bernstein bound out. `level` is that of intervals and of
    lower bounds.
    """

    level: float = 0.95
    num_resamples: int = 1000
    seed: int = 0
    weight_cap: float = 10.0
    shrinkage: float = 1000.0
    most_reward: float | None = None

    def __post_init__(self) -> None:
        check_range("panel.level", self.level, above=0, below=1)
        check_range("panel.num_resamples", self.num_resamples, least=100)
        check_range("panel.seed", self.seed, least=0)
        check_range("panel.weight_cap", self.weight_cap, least=1)
        check_range("panel.shrinkage", self.shrinkage, least=0)
        if self.most_reward is not None:
            check_range("panel.most_reward", self.most_reward, above=0)


def decision_estimates(decisions: Decisions, config: PanelConfig) -> dict[str, Contributions]:
    """Those that the log allows: the ones with a reward model only where it has one."""
    estimates = {"ips": single_step.ips(decisions), "snips": single_step.snips(decisions)}
    if decisions.has_reward_model:
        estimates |= {
            "dm": single_step.dm(decisions),
            "dr": single_step.dr(decisions),
            "sndr": single_step.sndr(decisions),
            "switch_dr": single_step.switch_dr(decisions, cap=config.weight_cap),
            "dr_shrunk": single_step.dr_shrunk(decisions, shrinkage=config.shrinkage),
        }
    return estimates


def decision_panel(decisions: Decisions, *, config: PanelConfig, rules: OverlapRules) -> dict[str, Any]:
    """Value per decision of the target policy and its gain over the policy that logged."""
    panel = _panel(
        decision_overlap(decisions, cap=config.weight_cap),
        lambda: decision_estimates(decisions, config),
        single_step.logged(decisions),
        config,
        rules,
    )
    if config.most_reward is not None and not panel["refused"]:
        panel["bernstein"] = {
            name: _number(
                clipped_lower(
                    decisions,
                    cap=config.weight_cap,
                    most_reward=config.most_reward,
                    level=config.level,
                    over_logged=over_logged,
                )
            )
            for name, over_logged in (("lower", False), ("gain_lower", True))
        }
    return panel


def sequence_panel(
    sequences: Sequences,
    *,
    config: PanelConfig,
    rules: OverlapRules,
    features_SHD: np.ndarray | None = None,
    expected_features_SHD: np.ndarray | None = None,
) -> dict[str, Any]:
    """Value per sequence; estimates by importance sampling, which whole sequences must support, and by fitted
    Q, which single steps must (only with features, see `fitted_q`)."""
    fitted = None
    if features_SHD is not None:
        assert expected_features_SHD is not None, (
            "features come with their expectation under the target policy"
        )
        fitted = fitted_q(sequences, features_SHD=features_SHD, expected_features_SHD=expected_features_SHD)
    logged = sequence.logged_return(sequences)

    def by_sampling() -> dict[str, Contributions]:
        estimates = {
            "per_decision_is": sequence.per_decision_is(sequences),
            "self_normalised": sequence.self_normalised(sequences),
            "whole_is": sequence.whole_is(sequences),
        }
        if fitted is not None:
            estimates["doubly_robust"] = sequence.doubly_robust(
                sequences, predicted_SH=fitted.predicted_SH, expected_SH=fitted.expected_SH
            )
        return estimates

    overlap = sequence_overlap(sequences, cap=config.weight_cap)
    panels = {"importance_sampling": _panel(overlap, by_sampling, logged, config, rules)}
    if fitted is not None:
        overlap, value = step_overlap(sequences, cap=config.weight_cap), fitted.contributions
        panels["fitted_q"] = _panel(overlap, lambda: {"fitted_q": value}, logged, config, rules)
    return panels


def _panel(
    overlap: Overlap,
    estimates: Callable[[], Mapping[str, Contributions]],
    logged: Contributions,
    config: PanelConfig,
    rules: OverlapRules,
) -> dict[str, Any]:
    """`estimates` are not even computed where the overlap refuses them."""
    refused = reasons_against(overlap, rules)
    made = {} if refused else estimates()
    return {
        "overlap": overlap.as_dict(),
        "refused": list(refused),
        "logged": _figures(logged, config),
        "estimates": {
            name: _figures(estimate, config) | {"gain": _figures(estimate.minus(logged), config)}
            for name, estimate in made.items()
        },
    }


def _figures(estimate: Contributions, config: PanelConfig) -> dict[str, Any]:
    """The value, its percentile interval, and the one-sided lower bound by each method."""
    bounds = bootstrap_bounds(
        estimate, level=config.level, num_resamples=config.num_resamples, seed=config.seed
    ) | {"t": t_bounds(estimate, level=config.level)}
    lower = {name: _number(bound.lower) for name, bound in bounds.items()}
    return bounds["percentile"].interval.as_dict() | {"lower": lower}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
