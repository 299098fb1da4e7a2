"""How well predicted value orders users and how well its level fits.

Each statistic takes (actual_U, predicted_U), in money or any other unit, and treats users with equal
predictions as one group (see `statistic.py`).

Legend: R resamples, U users, G groups of tied users, Q deciles (first is the lowest prediction).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from recsys.metrics.statistic import Statistic, TieGroups, bin_sums, middle_rank

NUM_DECILES = 10


def _covariance_with_rank(values_U: np.ndarray, key_U: np.ndarray, weight_RU: np.ndarray) -> np.ndarray:
    weight_RG, sum_RG = TieGroups(key_U).sums(weight_RU, values_U - values_U.mean())
    total_R = weight_RG.sum(axis=1)
    mean_R = sum_RG.sum(axis=1) / total_R
    return (sum_RG * middle_rank(weight_RG)).sum(axis=1) / total_R - 0.5 * mean_R


@Statistic
def normalised_gini(actual_U: np.ndarray, predicted_U: np.ndarray, weight_RU: np.ndarray) -> np.ndarray:
    """Gini of actual value in order of the prediction, divided by the Gini in its own order.

    1 for the right order, 0 for a random or constant prediction, -1 for the reverse; 2 AUC - 1 when actual
    is 0 or 1. The Lorenz curve is straight within tied predictions. With Gini = 2 cov(y, F(key)) / mean(y)
    (Lerman and Yitzhaki 1984) the mean cancels, so net value below zero is allowed. NaN if actual is
    constant.
    """
    own_order_R = _covariance_with_rank(actual_U, actual_U, weight_RU)
    predicted_order_R = _covariance_with_rank(actual_U, predicted_U, weight_RU)
    return predicted_order_R / np.where(own_order_R > 0, own_order_R, np.nan)


@Statistic
def spearman(actual_U: np.ndarray, predicted_U: np.ndarray, weight_RU: np.ndarray) -> np.ndarray:
    """Pearson correlation of the middle ranks; NaN if either side is constant."""
    total_R = weight_RU.sum(axis=1)
    centred = []
    for key_U in (actual_U, predicted_U):
        groups = TieGroups(key_U)
        (weight_RG,) = groups.sums(weight_RU)
        centred.append(groups.to_users(middle_rank(weight_RG) - 0.5))
    a_RU, p_RU = centred
    covariance_R = np.einsum("ru,ru,ru->r", weight_RU, a_RU, p_RU) / total_R
    variances = [np.einsum("ru,ru,ru->r", weight_RU, x_RU, x_RU) / total_R for x_RU in centred]
    variance_R = variances[0] * variances[1]
    return covariance_R / np.sqrt(np.where(variance_R > 0, variance_R, np.nan))


@Statistic
def lift_at_10_percent(actual_U: np.ndarray, predicted_U: np.ndarray, weight_RU: np.ndarray) -> np.ndarray:
    """Mean actual value of the tenth of users with the highest prediction / mean of all; 1 is chance."""
    count_RQ, sum_RQ = bin_sums(
        key_U=predicted_U, values_U=(actual_U,), weight_RU=weight_RU, num_bins=NUM_DECILES
    )
    return (sum_RQ[:, -1] / count_RQ[:, -1]) / (sum_RQ.sum(axis=1) / count_RQ.sum(axis=1))


@Statistic
def total_bias(actual_U: np.ndarray, predicted_U: np.ndarray, weight_RU: np.ndarray) -> np.ndarray:
    """Sum of predictions / sum of actual - 1: 0 is unbiased, 0.1 is a tenth too high."""
    return (weight_RU @ predicted_U) / (weight_RU @ actual_U) - 1.0


@functools.partial(Statistic, centred=True, least=0.0)
def decile_mape(actual_U: np.ndarray, predicted_U: np.ndarray, weight_RU: np.ndarray) -> np.ndarray:
    """Mean over prediction deciles of |mean predicted - mean actual| / mean actual (Wang et al. 2019).

    Deciles whose actual mean is not above 0 have no relative error and are left out; `decile_wape` has them.
    """
    actual_RQ, predicted_RQ = _decile_sums(actual_U, predicted_U, weight_RU)
    is_positive_RQ = actual_RQ > 0
    error_RQ = np.where(is_positive_RQ, np.abs(predicted_RQ - actual_RQ) / actual_RQ, 0.0)
    return error_RQ.sum(axis=1) / is_positive_RQ.sum(axis=1)


@functools.partial(Statistic, centred=True, least=0.0)
def decile_wape(actual_U: np.ndarray, predicted_U: np.ndarray, weight_RU: np.ndarray) -> np.ndarray:
    """Sum over prediction deciles of |predicted - actual|, divided by the sum of |actual|."""
    actual_RQ, predicted_RQ = _decile_sums(actual_U, predicted_U, weight_RU)
    return np.abs(predicted_RQ - actual_RQ).sum(axis=1) / np.abs(actual_RQ).sum(axis=1)


def _decile_sums(
    actual_U: np.ndarray, predicted_U: np.ndarray, weight_RU: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    _, actual_RQ, predicted_RQ = bin_sums(
        key_U=predicted_U, values_U=(actual_U, predicted_U), weight_RU=weight_RU, num_bins=NUM_DECILES
    )
    return actual_RQ, predicted_RQ


@dataclass(frozen=True)
class DecileTable:
    """Ten groups of users by rising prediction, sizes within one of each other; arrays of shape (10,)."""

    num_users: np.ndarray
    mean_predicted: np.ndarray
    mean_actual: np.ndarray

    def as_dict(self) -> dict[str, list[float] | list[int]]:
        return {
            "num_users": self.num_users.tolist(),
            "mean_predicted": self.mean_predicted.tolist(),
            "mean_actual": self.mean_actual.tolist(),
        }


def decile_table(actual_U: np.ndarray, predicted_U: np.ndarray) -> DecileTable:
    """Calibration by decile of the prediction. Needs at least ten users."""
    assert len(actual_U) >= NUM_DECILES, "a decile table needs at least ten users"
    count_RQ, actual_RQ, predicted_RQ = bin_sums(
        key_U=np.asarray(predicted_U),
        values_U=(np.asarray(actual_U), np.asarray(predicted_U)),
        weight_RU=np.ones((1, len(actual_U))),
        num_bins=NUM_DECILES,
    )
    return DecileTable(
        num_users=count_RQ[0].astype(np.int64),
        mean_predicted=predicted_RQ[0] / count_RQ[0],
        mean_actual=actual_RQ[0] / count_RQ[0],
    )
