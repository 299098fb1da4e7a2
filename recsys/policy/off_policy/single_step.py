"""Estimators of a policy's value per decision, each a pure function of the log.

With w = target propensity / logging propensity, r the reward, q(a) a reward model, q_target = sum_a target(a)
q(a), and means over decisions:

    ips        mean(w r)                             Horvitz & Thompson 1952; no model, exact propensities
    snips      sum(w r) / sum(w)                     Swaminathan & Joachims 2015; small bias, less variance
    dm         mean(q_target)                        the model alone: biased wherever it is
    dr         mean(q_target + w (r - q))            Dudik, Langford & Li 2011; right if either is
    sndr       mean(q_target) + sum(w (r - q)) / sum(w)
    switch_dr  mean(q_target + w 1[w <= cap] (r - q))               Wang, Agarwal & Dudik 2017
    dr_shrunk  mean(q_target + s w / (w^2 + s) (r - q))             Su et al. 2020 (optimistic shrinkage)
"""

from __future__ import annotations

import numpy as np

from recsys.policy.off_policy.contributions import Contributions, summed_by_user
from recsys.policy.off_policy.decisions import Decisions


def logged(decisions: Decisions) -> Contributions:
    """Mean reward of the policy that logged."""
    return _mean(decisions, decisions.reward_R)


def ips(decisions: Decisions) -> Contributions:
    return _mean(decisions, decisions.weight_R * decisions.reward_R)


def snips(decisions: Decisions) -> Contributions:
    weight_R = decisions.weight_R
    return _by_user(decisions, (weight_R * decisions.reward_R, weight_R))


def dm(decisions: Decisions) -> Contributions:
    _, expected_R = _model(decisions)
    return _mean(decisions, expected_R)


def dr(decisions: Decisions) -> Contributions:
    return _corrected(decisions, decisions.weight_R)


def sndr(decisions: Decisions) -> Contributions:
    predicted_R, expected_R = _model(decisions)
    weight_R = decisions.weight_R
    return _by_user(
        decisions,
        (expected_R, np.ones_like(expected_R)),
        (weight_R * (decisions.reward_R - predicted_R), weight_R),
    )


def switch_dr(decisions: Decisions, *, cap: float) -> Contributions:
    """Decisions that weigh more than `cap` are left to the reward model."""
    weight_R = decisions.weight_R
    return _corrected(decisions, np.where(weight_R <= cap, weight_R, 0.0))


def dr_shrunk(decisions: Decisions, *, shrinkage: float) -> Contributions:
    """From the reward model alone (shrinkage 0) to `dr` (infinity)."""
    weight_R = decisions.weight_R
    return _corrected(decisions, shrinkage * weight_R / (weight_R**2 + shrinkage))


def _corrected(decisions: Decisions, weight_R: np.ndarray) -> Contributions:
    predicted_R, expected_R = _model(decisions)
    return _mean(decisions, expected_R + weight_R * (decisions.reward_R - predicted_R))


def _model(decisions: Decisions) -> tuple[np.ndarray, np.ndarray]:
    assert decisions.predicted_R is not None, "this estimator needs a reward model"
    assert decisions.expected_R is not None
    return decisions.predicted_R, decisions.expected_R


def _mean(decisions: Decisions, value_R: np.ndarray) -> Contributions:
    return _by_user(decisions, (value_R, np.ones_like(value_R)))


def _by_user(decisions: Decisions, *ratios: tuple[np.ndarray, np.ndarray]) -> Contributions:
    return summed_by_user(decisions.user_index_R, decisions.num_users, *ratios)
