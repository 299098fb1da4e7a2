"""How good predicted probabilities are (retention, conversion).

Each statistic takes (actual_U of 0 and 1, predicted_U in [0, 1]) and treats users with equal predictions as
one group (see `statistic.py`).

Legend: R resamples, U users, G groups of tied users, Q bins of equal count.
"""

from __future__ import annotations

import numpy as np

from recsys.metrics.statistic import Statistic, TieGroups, bin_sums

NUM_BINS = 10


def _check_binary(actual_U: np.ndarray) -> None:
    assert ((actual_U == 0) | (actual_U == 1)).all(), "outcomes must be 0 or 1"


@Statistic
def roc_auc(actual_U: np.ndarray, predicted_U: np.ndarray, weight_RU: np.ndarray) -> np.ndarray:
    """Chance that a positive is predicted above a negative, ties counted half; NaN without both kinds."""
    _check_binary(actual_U)
    weight_RG, positive_RG = TieGroups(predicted_U).sums(weight_RU, actual_U)
    negative_RG = weight_RG - positive_RG
    below_RG = np.cumsum(negative_RG, axis=1) - 0.5 * negative_RG
    pairs_R = positive_RG.sum(axis=1) * negative_RG.sum(axis=1)
    return (positive_RG * below_RG).sum(axis=1) / np.where(pairs_R > 0, pairs_R, np.nan)


@Statistic
def brier(actual_U: np.ndarray, predicted_U: np.ndarray, weight_RU: np.ndarray) -> np.ndarray:
    """Mean squared distance between probability and outcome (Brier 1950); lower is better."""
    _check_binary(actual_U)
    return weight_RU @ (predicted_U - actual_U) ** 2 / weight_RU.sum(axis=1)


@Statistic
def expected_calibration_error(
    actual_U: np.ndarray, predicted_U: np.ndarray, weight_RU: np.ndarray
) -> np.ndarray:
    """Mean over users of their bin's |mean outcome - mean probability|, ten bins of equal count."""
    _check_binary(actual_U)
    count_RQ, actual_RQ, predicted_RQ = bin_sums(
        key_U=predicted_U, values_U=(actual_U, predicted_U), weight_RU=weight_RU, num_bins=NUM_BINS
    )
    return np.abs(actual_RQ - predicted_RQ).sum(axis=1) / count_RQ.sum(axis=1)
