"""Statistics of (actual, predicted) pairs that can be computed for many resamples of the users at once.

A resample is a row of weights: how often each user was drawn. Users with equal predictions cannot be told
apart, so every statistic here treats them as one group whose members all have the group's mean: the result
is the average over all orders of the tied users, and does not depend on the order of the rows.

Legend: R resamples, U users, G groups of tied users (ascending key), Q bins of equal count.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np


class Statistic:
    """A function (actual_U, predicted_U) -> float that also knows its weighted form.

    Used as a decorator on a function (actual_U, predicted_U, weight_RU) -> shape (R,). Weights are whole
    numbers; a weight of two is the same as the user standing twice in the arrays. Any number of arrays over
    users may come before the weights.

    centred: resamples add noise that moves this statistic one way (an error of deciles grows), so their
    quantiles are moved until their median is the figure itself. least, most: what it cannot fall below or
    exceed, and so where a moved interval ends.
    """

    def __init__(
        self,
        weighted: Callable[..., np.ndarray],
        *,
        centred: bool = False,
        least: float = -math.inf,
        most: float = math.inf,
    ) -> None:
        self._weighted, self.centred, self.least, self.most = weighted, centred, least, most
        functools.update_wrapper(self, weighted)

    def __call__(self, *arrays_U: np.ndarray) -> float:
        """The statistic over all users; NaN where it is undefined (no users, nothing varies)."""
        if len(arrays_U[0]) == 0:
            return float("nan")
        return float(self.resampled(*arrays_U, weight_RU=np.ones((1, len(arrays_U[0]))))[0])

    def resampled(self, *arrays_U: np.ndarray, weight_RU: np.ndarray) -> np.ndarray:
        """The statistic for each row of weights, shape (R,)."""
        arrays_U = tuple(np.asarray(array, np.float64) for array in arrays_U)
        assert all(array.shape == weight_RU.shape[1:] for array in arrays_U), "arrays of shape (U,) expected"
        assert all(np.isfinite(array).all() for array in arrays_U), "a value is not finite"
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._weighted(*arrays_U, weight_RU)


class TieGroups:
    """Users with an equal key, groups in ascending order of the key."""

    def __init__(self, key_U: np.ndarray) -> None:
        self.order_U = np.argsort(key_U, kind="stable")
        sorted_U = key_U[self.order_U]
        is_start_U = np.concatenate(([True], sorted_U[1:] != sorted_U[:-1]))
        self._start_G = np.flatnonzero(is_start_U)
        self._group_of_U = np.empty(len(key_U), dtype=np.int64)
        self._group_of_U[self.order_U] = np.cumsum(is_start_U) - 1

    def sums(self, weight_RU: np.ndarray, *values_U: np.ndarray) -> list[np.ndarray]:
        """Weight of each group, then the weighted sum of each array of values; each of shape (R, G)."""
        sorted_RU = weight_RU[:, self.order_U]
        parts = [sorted_RU, *(sorted_RU * values[self.order_U] for values in values_U)]
        if len(self._start_G) == len(self.order_U):
            return parts
        return [np.add.reduceat(part, self._start_G, axis=1) for part in parts]

    def to_users(self, values_RG: np.ndarray) -> np.ndarray:
        """Each user's group value, shape (R, U)."""
        return values_RG[:, self._group_of_U]


def middle_rank(weight_RG: np.ndarray) -> np.ndarray:
    """Share of users below a group plus half of the group: its rank in (0, 1), shape (R, G)."""
    cumulative_RG = np.cumsum(weight_RG, axis=1)
    return (cumulative_RG - 0.5 * weight_RG) / cumulative_RG[:, -1:]


def bin_sums(
    *, key_U: np.ndarray, values_U: tuple[np.ndarray, ...], weight_RU: np.ndarray, num_bins: int
) -> list[np.ndarray]:
    """Users in `num_bins` bins of equal count by ascending key: counts, then sums of each array of values.

    Counts are whole and differ by at most one. A group of tied users that crosses a border is divided in
    proportion. Each of shape (R, Q).
    """
    weight_RG, *sums_RG = TieGroups(key_U).sums(weight_RU, *values_U)
    total_R = weight_RG.sum(axis=1)
    edge_RQ = np.floor(total_R[:, None] * np.arange(num_bins + 1) / num_bins + 0.5)
    return [
        np.diff(edge_RQ, axis=1),
        *(np.diff(_interpolate(edge_RQ, weight_RG, sum_RG), axis=1) for sum_RG in sums_RG),
    ]


def _interpolate(edge_RQ: np.ndarray, weight_RG: np.ndarray, sum_RG: np.ndarray) -> np.ndarray:
    """Running sum of `sum_RG` at the points where the running weight reaches the edges."""
    result_RQ = np.empty_like(edge_RQ)
    for r, edges in enumerate(edge_RQ):
        users = np.concatenate(([0.0], np.cumsum(weight_RG[r])))
        result_RQ[r] = np.interp(edges, users, np.concatenate(([0.0], np.cumsum(sum_RG[r]))))
    return result_RQ
