"""Sequences of decisions (a user's visits, or the slots of a slate from the top) and their estimators.

Cumulative weights W_t = prod_{s <= t} w_s pay for the change of everything before a reward, so these are
right where a decision changes what comes later; their variance grows exponentially with the length, hence the
fitted-Q estimate for more than about ten steps.

    whole_is         mean(W_H sum_t discount^t r_t)
    per_decision_is  mean(sum_t discount^t W_t r_t)                 Precup, Sutton & Singh 2000
    self_normalised  sum_t discount^t sum_S(W_t r_t) / sum_S(W_t)   Thomas & Brunskill 2016 (CWPDIS)
    doubly_robust    mean(sum_t discount^t (W_t (r_t - Q_t) + W_{t-1} V_t))      Jiang & Li 2016

Legend: S sequences, H steps, U users, R decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recsys.policy.off_policy.contributions import Contributions, summed_by_user
from recsys.policy.off_policy.decisions import Decisions, check_propensities
from recsys.schema import InputError
from recsys.settings import check_range


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Decisions in their order. A sequence that ended early earns nothing more: its value stays what it is.

    `mask_SH` is True for steps that took place and has no gaps. Entries outside it are ignored.
    """

    user_S: np.ndarray  # int or str, the cluster of each sequence
    mask_SH: np.ndarray  # bool
    reward_SH: np.ndarray  # float64
    propensity_SH: np.ndarray  # float64
    target_propensity_SH: np.ndarray  # float64
    discount: float = 1.0  # per step

    def __post_init__(self) -> None:
        check_range("discount", self.discount, above=0, most=1)
        shape = (len(self.user_S), self.mask_SH.shape[-1])
        for name in ("mask_SH", "reward_SH", "propensity_SH", "target_propensity_SH"):
            if getattr(self, name).shape != shape:
                raise InputError(f"{name} has shape {getattr(self, name).shape}, not {shape}")
        if not self.mask_SH[:, :1].all() or (np.diff(self.mask_SH.astype(int), axis=1) > 0).any():
            raise InputError("a sequence is empty or has a gap; hand in its steps in order from the first")
        if not np.isfinite(self.reward_SH[self.mask_SH]).all():
            raise InputError("a reward of a sequence is not finite; every step that took place needs one")
        check_propensities(self.propensity_SH[self.mask_SH], self.target_propensity_SH[self.mask_SH])

    @cached_property
    def weight_SH(self) -> np.ndarray:
        """Importance weight of each step, 1 after the end."""
        ratio_SH = np.ones(self.mask_SH.shape)
        np.divide(self.target_propensity_SH, self.propensity_SH, out=ratio_SH, where=self.mask_SH)
        return ratio_SH

    @cached_property
    def cumulative_weight_SH(self) -> np.ndarray:
        """Importance weight of everything up to each step; the last one stays after the end."""
        return np.cumprod(self.weight_SH, axis=1)

    @cached_property
    def discounted_reward_SH(self) -> np.ndarray:
        """0 after the end."""
        return np.where(self.mask_SH, self.reward_SH, 0.0) * self.discount_H

    @property
    def discount_H(self) -> np.ndarray:
        return self.discount ** np.arange(self.mask_SH.shape[1])

    @cached_property
    def user_index_S(self) -> np.ndarray:
        return np.unique(self.user_S, return_inverse=True)[1]

    @cached_property
    def num_users(self) -> int:
        return int(self.user_index_S.max()) + 1

    def mean(self, value_S: np.ndarray) -> Contributions:
        """Mean of `value_S` over the sequences."""
        return summed_by_user(self.user_index_S, self.num_users, (value_S, np.ones(len(value_S))))


def slates_as_sequences(decisions: Decisions) -> Sequences:
    """Each slate from its first slot down: the reward of a slot may depend on the slots above it.

    With `per_decision_is` this is the cascade estimator of McInerney et al. 2020 (RIPS); with
    `whole_is` it is the importance sampling of whole slates. A slate's slots must run from 1 without a gap.
    """
    _, first_S, slate_R = np.unique(decisions.slate_R, return_index=True, return_inverse=True)
    step_R = decisions.slot_R - 1
    shape = (len(first_S), int(step_R.max()) + 1)

    def grid(values_R: np.ndarray, fill: float) -> np.ndarray:
        out_SH = np.full(shape, fill, dtype=np.float64)
        out_SH[slate_R, step_R] = values_R
        return out_SH

    return Sequences(
        user_S=decisions.user_R[first_S],
        mask_SH=grid(np.ones(len(slate_R)), 0.0) > 0,
        reward_SH=grid(decisions.reward_R, 0.0),
        propensity_SH=grid(decisions.propensity_R, 1.0),
        target_propensity_SH=grid(decisions.target_propensity_R, 1.0),
    )


def logged_return(sequences: Sequences) -> Contributions:
    """Mean discounted sum of rewards of the policy that logged."""
    return sequences.mean(sequences.discounted_reward_SH.sum(axis=1))


def whole_is(sequences: Sequences) -> Contributions:
    return sequences.mean(sequences.cumulative_weight_SH[:, -1] * sequences.discounted_reward_SH.sum(axis=1))


def per_decision_is(sequences: Sequences) -> Contributions:
    return sequences.mean((sequences.cumulative_weight_SH * sequences.discounted_reward_SH).sum(axis=1))


def self_normalised(sequences: Sequences) -> Contributions:
    """One ratio a step; weights of sequences that ended are carried on."""
    weight_HS = sequences.cumulative_weight_SH.T
    ratios = [
        (weight_S * reward_S, weight_S)
        for weight_S, reward_S in zip(weight_HS, sequences.discounted_reward_SH.T, strict=True)
    ]
    return summed_by_user(sequences.user_index_S, sequences.num_users, *ratios)


def doubly_robust(
    sequences: Sequences, *, predicted_SH: np.ndarray, expected_SH: np.ndarray
) -> Contributions:
    """`predicted_SH` is Q of the logged action, `expected_SH` the value of the state under the target policy.

    Both count what is earned from that step on, as `fitted_q` gives them.
    """
    before_SH = np.roll(sequences.cumulative_weight_SH, 1, axis=1)
    before_SH[:, 0] = 1.0
    scale_SH = np.where(sequences.mask_SH, sequences.discount_H, 0.0)
    correction_SH = sequences.cumulative_weight_SH * (sequences.reward_SH - predicted_SH)
    terms_SH = np.where(sequences.mask_SH, correction_SH + before_SH * expected_SH, 0.0)
    return sequences.mean((scale_SH * terms_SH).sum(axis=1))
