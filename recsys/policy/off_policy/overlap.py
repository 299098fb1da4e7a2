"""How far the log reaches the target policy: effective sample size, weight tails, support.

Legend: R decisions, S sequences, W weights of either.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from recsys.policy.off_policy.contributions import summed_by_user
from recsys.policy.off_policy.decisions import Decisions
from recsys.policy.off_policy.sequences import Sequences


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Weights average 1 where the propensities are right and the target shows only what could be logged."""

    num_users: int
    num_weights: int  # decisions, or sequences
    num_rewarded: int  # of them with a reward other than 0
    effective_size: float  # (sum w)^2 / sum w^2 (Kish 1965)
    mean_weight: float
    mean_weight_error: float  # standard error, users as clusters
    max_weight: float
    p999_weight: float
    clipped_share: float  # of the weights, above the cap
    largest_share: float  # of the sum of the weights, held by the largest
    unsupported_mass: float | None  # mean target probability of what the logging policy never shows
    always_certain: bool  # every logged action had propensity 1

    @property
    def effective_share(self) -> float:
        return self.effective_size / self.num_weights

    def as_dict(self) -> dict[str, float | int | bool | None]:
        return dataclasses.asdict(self) | {"effective_share": self.effective_share}


def decision_overlap(decisions: Decisions, *, cap: float) -> Overlap:
    return _overlap(
        weight_W=decisions.weight_R,
        reward_W=decisions.reward_R,
        user_index_W=decisions.user_index_R,
        num_users=decisions.num_users,
        cap=cap,
        unsupported_W=decisions.unsupported_R,
        always_certain=bool((decisions.propensity_R >= 1).all()),
    )


def sequence_overlap(sequences: Sequences, *, cap: float) -> Overlap:
    """Of whole sequences: the weight of each is that of all its steps."""
    return _overlap(
        weight_W=sequences.cumulative_weight_SH[:, -1],
        reward_W=np.abs(sequences.discounted_reward_SH).sum(axis=1),
        user_index_W=sequences.user_index_S,
        num_users=sequences.num_users,
        cap=cap,
        unsupported_W=None,
        always_certain=bool((sequences.propensity_SH[sequences.mask_SH] >= 1).all()),
    )


def step_overlap(sequences: Sequences, *, cap: float) -> Overlap:
    """Of single steps: what a fitted-Q estimate rests on."""
    mask_SH = sequences.mask_SH
    return _overlap(
        weight_W=sequences.weight_SH[mask_SH],
        reward_W=sequences.reward_SH[mask_SH],
        user_index_W=np.broadcast_to(sequences.user_index_S[:, None], mask_SH.shape)[mask_SH],
        num_users=sequences.num_users,
        cap=cap,
        unsupported_W=None,
        always_certain=bool((sequences.propensity_SH[mask_SH] >= 1).all()),
    )


def _overlap(
    *,
    weight_W: np.ndarray,
    reward_W: np.ndarray,
    user_index_W: np.ndarray,
    num_users: int,
    cap: float,
    unsupported_W: np.ndarray | None,
    always_certain: bool,
) -> Overlap:
    total, squares = float(weight_W.sum()), float((weight_W**2).sum())
    mean = summed_by_user(user_index_W, num_users, (weight_W, np.ones(len(weight_W))))
    return Overlap(
        num_users=num_users,
        num_weights=len(weight_W),
        num_rewarded=int((reward_W != 0).sum()),
        effective_size=total**2 / squares if squares > 0 else 0.0,
        mean_weight=mean.value,
        mean_weight_error=mean.standard_error,
        max_weight=float(weight_W.max()),
        p999_weight=float(np.quantile(weight_W, 0.999)),
        clipped_share=float((weight_W > cap).mean()),
        largest_share=float(weight_W.max()) / total if total > 0 else 1.0,
        unsupported_mass=None if unsupported_W is None else float(unsupported_W.mean()),
        always_certain=always_certain,
    )
