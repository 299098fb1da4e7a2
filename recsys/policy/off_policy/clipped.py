"""Importance sampling with clipped weights and known rewards: what empirical Bernstein can be put on.

For rewards of 0 or more, mean(min(w, cap) r) never exceeds the target policy's value in expectation, so a
lower bound of the one is a lower bound of the other (Ionides 2008; Thomas, Theocharous & Ghavamzadeh 2015).

Legend: R decisions, U users.
"""

from __future__ import annotations

import numpy as np

from recsys.policy.off_policy.bounds import bernstein_lower
from recsys.policy.off_policy.decisions import Decisions
from recsys.schema import InputError


def clipped_lower(
    decisions: Decisions, *, cap: float, most_reward: float, level: float = 0.95, over_logged: bool = False
) -> float:
    """Lower bound of the target policy's value per decision, or with `over_logged` of what it gains.

    Rewards lie in [0, most_reward], InputError otherwise. Given how many decisions each user has, users are
    independent and a user's sum lies within cap * most_reward * the largest number of decisions of a user.
    """
    reward_R = decisions.reward_R
    if reward_R.min() < 0 or reward_R.max() > most_reward:
        raise InputError(
            f"rewards run from {reward_R.min():g} to {reward_R.max():g}, beyond [0, {most_reward:g}]; an "
            "empirical Bernstein bound needs their true range, set most_reward to it or to null"
        )
    taken_off = 1.0 if over_logged else 0.0
    factor_R = np.minimum(decisions.weight_R, cap) - taken_off
    count_U = np.bincount(decisions.user_index_R, minlength=decisions.num_users)
    value_U = np.bincount(decisions.user_index_R, factor_R * reward_R, minlength=decisions.num_users)
    scale = most_reward * count_U.max() / count_U.mean()
    return bernstein_lower(
        value_U / count_U.mean(), least=-taken_off * scale, most=(cap - taken_off) * scale, level=level
    )
