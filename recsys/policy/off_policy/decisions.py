"""Logged decisions as arrays, checked once: what was shown, how likely that was, what came of it.

One decision is one slot of one slate. The target policy's propensity is asked for the slots before as they
were shown, so a decision is judged alone: the value estimated is that of a policy which changes this slot and
leaves the others to the logging policy. Where the reward of a slot depends on what else was shown, read a
slate as a sequence (`sequences.slates_as_sequences`).

Legend: R decisions, U users (ascending), N candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from recsys.schema import InputError

_MOST_ABOVE_ONE = 1e-9  # rounding of a sum of probabilities


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """Rows of a log that a stochastic policy wrote. Raises InputError naming the first thing that cannot be.

    `user_R` is the cluster: rows of a user are never taken for independent. `reward_R` is in the unit of the
    value that is asked for. `target_propensity_R` is the probability with which the target policy shows the
    logged action there, 0 where it never would.

    `predicted_R` is a reward model's expectation for the logged action, `expected_R` that of the same model
    under the target policy, sum_a target(a) q(a). `unsupported_R` is the target's probability of actions that
    the logging policy would never have shown there (`unsupported_mass`). None: not known.
    """

    user_R: np.ndarray  # int or str
    slate_R: np.ndarray  # int or str
    slot_R: np.ndarray  # int, from 1
    action_R: np.ndarray  # int, item_index
    reward_R: np.ndarray  # float64
    propensity_R: np.ndarray  # float64, of the logged action under the policy that logged it
    target_propensity_R: np.ndarray  # float64
    predicted_R: np.ndarray | None = None
    expected_R: np.ndarray | None = None
    unsupported_R: np.ndarray | None = None

    def __post_init__(self) -> None:
        num_rows = len(self.user_R)
        if not num_rows:
            raise InputError("there are no decisions to evaluate; hand in a log that holds some")
        for name, array in vars(self).items():
            if array is not None and array.shape != (num_rows,):
                raise InputError(
                    f"{name} has shape {array.shape}, user_R has ({num_rows},); hand in one entry a row"
                )
        for name in ("reward_R", "predicted_R", "expected_R"):
            _check_finite(name, getattr(self, name))
        check_propensities(self.propensity_R, self.target_propensity_R)
        if self.unsupported_R is not None:
            _check_probability("unsupported_R", self.unsupported_R)
        if (self.predicted_R is None) != (self.expected_R is None):
            raise InputError("predicted_R and expected_R come from one reward model; hand in both or neither")
        self._check_slates()

    def _check_slates(self) -> None:
        """A slot is decided once, and a slate shows an item once: what a doubled join would break."""
        _, slate_R = np.unique(self.slate_R, return_inverse=True)
        for name, other_R in (("slot", self.slot_R), ("action", self.action_R)):
            pair_R = slate_R * (int(other_R.max()) + 1) + other_R
            _, first, count = np.unique(pair_R, return_index=True, return_counts=True)
            if (count > 1).any():
                row = first[count.argmax()]
                raise InputError(
                    f"slate {self.slate_R[row]} holds {name} {other_R[row]} twice; hand in each decision once"
                )

    @property
    def weight_R(self) -> np.ndarray:
        """Importance weights, target propensity / logging propensity."""
        return self.target_propensity_R / self.propensity_R

    @property
    def has_reward_model(self) -> bool:
        return self.predicted_R is not None

    @cached_property
    def user_index_R(self) -> np.ndarray:
        """int64, from 0, of each row's user among the distinct users."""
        return np.unique(self.user_R, return_inverse=True)[1]

    @cached_property
    def num_users(self) -> int:
        return int(self.user_index_R.max()) + 1

    def with_reward_model(self, *, predicted_R: np.ndarray, expected_R: np.ndarray) -> Decisions:
        return replace(self, predicted_R=predicted_R, expected_R=expected_R)


def unsupported_mass(target_RN: np.ndarray, logging_RN: np.ndarray, *, floor: float = 0.0) -> np.ndarray:
    """(R,) The target policy's probability of candidates whose logging propensity is `floor` or less."""
    return np.where(logging_RN <= floor, target_RN, 0.0).sum(axis=1).clip(0.0, 1.0)


def check_propensities(propensity: np.ndarray, target_propensity: np.ndarray) -> None:
    """Logging propensities in (0, 1], the target's in [0, 1]; InputError says which row is not."""
    if not np.isfinite(propensity).all():
        raise InputError(
            "the log has decisions without a propensity, as purchase logs do; only a log that a stochastic "
            "policy wrote can be evaluated"
        )
    _check_probability("the logging propensity", propensity)
    if (propensity <= 0).any():
        row = int((propensity <= 0).argmax())
        raise InputError(
            f"the logging propensity in row {row + 1} is 0, yet the action was shown; mend the log"
        )
    _check_probability("the target's propensity", target_propensity)


def _check_probability(name: str, values: np.ndarray) -> None:
    is_bad = ~((values >= 0) & (values <= 1 + _MOST_ABOVE_ONE))
    if is_bad.any():
        row = int(is_bad.ravel().argmax())
        raise InputError(f"{name} in row {row + 1} is {values.ravel()[row]}; it must be a probability")


def _check_finite(name: str, values: np.ndarray | None) -> None:
    if values is not None and not np.isfinite(values).all():
        row = int((~np.isfinite(values)).argmax())
        raise InputError(f"{name} in row {row + 1} is {values[row]}; it must be a finite number")
