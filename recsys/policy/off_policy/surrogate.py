"""A long-term outcome from short-term surrogates: the surrogate index (Athey, Chetty, Imbens & Kang 2019).

A regression of the long-term outcome on surrogates (returns, orders, variety of the first weeks) is fitted
where both are known, and its prediction stands in for the outcome where only the surrogates are:

    index = E[outcome | surrogates],   value = sum_U(weight index) / sum_U(weight)

It is right where the policy moves the outcome only through the surrogates and where the link between them has
not changed; `surrogacy_gap` measures both on a log old enough to know the outcome.

Legend: U users, D surrogates (a constant is added: D + 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.policy.off_policy.bounds import Bounds, t_bounds
from recsys.policy.off_policy.contributions import Contributions
from recsys.schema import InputError


@dataclass(frozen=True)
class SurrogateIndex:
    """Least squares with a constant, and the covariance of its coefficients (White 1980, one row a user)."""

    coefficient: np.ndarray  # (D + 1,), the constant first
    covariance: np.ndarray  # (D + 1, D + 1)

    @classmethod
    def fit(cls, *, surrogates_UD: np.ndarray, outcome_U: np.ndarray) -> SurrogateIndex:
        """Raises InputError where there are too few users for the surrogates, or one repeats the others."""
        design = _with_constant(surrogates_UD)
        if np.linalg.matrix_rank(design) < design.shape[1]:
            raise InputError(
                f"{design.shape[1] - 1} surrogates of {len(design)} users do not determine a regression; "
                "leave out those that others add up to, or use more users"
            )
        bread = np.linalg.inv(design.T @ design)
        coefficient = bread @ (design.T @ outcome_U)
        score = design * (outcome_U - design @ coefficient)[:, None]
        return cls(coefficient, bread @ (score.T @ score) @ bread)

    def predict(self, surrogates_UD: np.ndarray) -> np.ndarray:
        """(U,) The long-term outcome that the surrogates announce."""
        return _with_constant(surrogates_UD) @ self.coefficient


def surrogate_value(
    index: SurrogateIndex, *, surrogates_UD: np.ndarray, weight_U: np.ndarray, level: float = 0.95
) -> Bounds:
    """Long-term value of a target policy, per user of the new log.

    `weight_U` is the importance weight of all of a user's decisions over the time the surrogates cover
    (`Sequences.cumulative_weight_SH`, last step); ones for users that the target policy itself served. The
    users are others than those of the fit, whose own uncertainty is added.
    """
    estimate = _weighted_mean(index.predict(surrogates_UD), weight_U)
    mean_surrogates = weight_U @ _with_constant(surrogates_UD) / weight_U.sum()
    fit_variance = float(mean_surrogates @ index.covariance @ mean_surrogates)
    return t_bounds(estimate, level=level, extra_variance=fit_variance)


def surrogacy_gap(
    index: SurrogateIndex,
    *,
    surrogates_UD: np.ndarray,
    outcome_U: np.ndarray,
    weight_U: np.ndarray,
    level: float = 0.95,
) -> Bounds:
    """What the index misses of the target policy's outcome, on users whose outcome is known.

    0 where surrogacy holds; added to `surrogate_value` it corrects for a direct effect of the policy, as the
    residual term of Saito et al. 2024 (LOPE) does.
    """
    return t_bounds(_weighted_mean(outcome_U - index.predict(surrogates_UD), weight_U), level=level)


def _weighted_mean(value_U: np.ndarray, weight_U: np.ndarray) -> Contributions:
    return Contributions((weight_U * value_U)[:, None], weight_U[:, None])


def _with_constant(surrogates_UD: np.ndarray) -> np.ndarray:
    return np.hstack([np.ones((len(surrogates_UD), 1)), surrogates_UD])
