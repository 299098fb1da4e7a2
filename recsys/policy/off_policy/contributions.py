"""What each user adds to an estimate: the one form that every interval and bound is computed from.

An estimate is a sum of ratios of sums over users, sum_T (sum_U numerator / sum_U denominator). Importance
sampling divides by the number of decisions, its self-normalised form by the sum of the weights, and a
sequence has a ratio for each step.

Legend: U users, T ratios, R decisions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Contributions:
    """Sums of each user's rows, both (U, T)."""

    numerator_UT: np.ndarray
    denominator_UT: np.ndarray

    def __post_init__(self) -> None:
        assert self.numerator_UT.shape == self.denominator_UT.shape
        assert self.numerator_UT.ndim == 2

    @property
    def num_users(self) -> int:
        return len(self.numerator_UT)

    @property
    def value(self) -> float:
        """The estimate; NaN where a denominator is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float((self.numerator_UT.sum(axis=0) / self.denominator_UT.sum(axis=0)).sum())

    @property
    def influence_U(self) -> np.ndarray:
        """(U,) What each user moves the estimate by, to first order (delta method of ratios); sums to 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio_T = self.numerator_UT.sum(axis=0) / self.denominator_UT.sum(axis=0)
            residual_UT = (self.numerator_UT - ratio_T * self.denominator_UT) / self.denominator_UT.mean(
                axis=0
            )
        return residual_UT.sum(axis=1)

    @property
    def standard_error(self) -> float:
        """Of the estimate; NaN for fewer than two users."""
        if self.num_users < 2:
            return math.nan
        return math.sqrt(self.influence_U.var(ddof=1) / self.num_users)

    def minus(self, other: Contributions) -> Contributions:
        """The paired difference of two estimates over the same users."""
        assert self.num_users == other.num_users, "a paired difference needs the same users"
        return Contributions(
            np.hstack([self.numerator_UT, -other.numerator_UT]),
            np.hstack([self.denominator_UT, other.denominator_UT]),
        )


def summed_by_user(
    user_index_R: np.ndarray, num_users: int, *ratios: tuple[np.ndarray, np.ndarray]
) -> Contributions:
    """Each ratio is (numerator_R, denominator_R) by row; rows are added up within their user."""

    def sums(rows: list[np.ndarray]) -> np.ndarray:
        return np.stack([np.bincount(user_index_R, row, minlength=num_users) for row in rows], axis=1)

    return Contributions(sums([top for top, _ in ratios]), sums([bottom for _, bottom in ratios]))
