"""Rising maps from what was predicted to what came, for money and for chances alike.

Legend: K records, N knots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import isotonic_regression

NUM_BINS = (1, 5, 20)  # candidates; 1 is a scale
_MIN_POSITIVE = 50  # records of a bin above zero
_NUM_FOLDS = 5
_STEP = 1 + 1e-9  # equal predictions make one knot, whatever the rounding of their means
_PRIOR_LOG_SD = 0.2  # how far a level is believed to be off before any record is seen


@dataclass(frozen=True)
class MonotoneMap:
    """Piecewise linear from the origin through the knots, and on at the last knot's ratio.

    It keeps the order of users: knots rise strictly on both sides.
    """

    predicted: tuple[float, ...] = (1.0,)
    actual: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for knots in (self.predicted, self.actual):
            assert (np.diff([0.0, *knots]) > 0).all(), "knots must rise from above 0"

    def __call__(self, predicted: np.ndarray) -> np.ndarray:
        inside = np.interp(predicted, [0.0, *self.predicted], [0.0, *self.actual])
        beyond = predicted * (self.actual[-1] / self.predicted[-1])
        return np.where(predicted > self.predicted[-1], beyond, inside)


def fit_map(predicted_K: np.ndarray, actual_K: np.ndarray, fold_K: np.ndarray) -> MonotoneMap:
    """The map with as many bins as users held out of it speak for; the identity without positive records.

    fold_K: int, the same for all records of a user. A map of more bins is taken only where its Poisson
    deviance on the held-out folds is lower by more than a standard error.
    """
    best = NUM_BINS[0]
    for num_bins in NUM_BINS[1:]:
        if (actual_K > 0).sum() < num_bins * _MIN_POSITIVE:
            break
        gain = _held_out(predicted_K, actual_K, fold_K, best) - _held_out(
            predicted_K, actual_K, fold_K, num_bins
        )
        if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            best = num_bins
    return binned_map(predicted_K, actual_K, best)


def _held_out(predicted_K: np.ndarray, actual_K: np.ndarray, fold_K: np.ndarray, num_bins: int) -> np.ndarray:
    """Poisson deviance (up to what does not depend on the map) of each fold under the map of the others."""
    losses = []
    for fold in range(_NUM_FOLDS):
        out_K = fold_K % _NUM_FOLDS == fold
        if out_K.any() and not out_K.all():
            found = binned_map(predicted_K[~out_K], actual_K[~out_K], num_bins)(predicted_K[out_K])
            found = np.maximum(found, 1e-9)
            losses.append(float((found - actual_K[out_K] * np.log(found)).mean()))
    return np.array(losses) if len(losses) > 1 else np.zeros(2)


def binned_map(predicted_K: np.ndarray, actual_K: np.ndarray, num_bins: int) -> MonotoneMap:
    """Knots at the means of bins of equal count, bins out of order pooled (isotonic regression)."""
    order = np.argsort(predicted_K, kind="stable")
    bins = [part for part in np.array_split(order, num_bins) if len(part)]
    if not bins or actual_K.sum() <= 0 or predicted_K.sum() <= 0:
        return MonotoneMap()
    weight = np.array([len(part) for part in bins], np.float64)
    predicted = np.array([predicted_K[part].mean() for part in bins])
    actual = np.array([actual_K[part].mean() for part in bins])
    if len(bins) == 1:
        return MonotoneMap((1.0,), (_shrunk_scale(predicted_K, actual_K),))
    block = np.unique(isotonic_regression(actual, sample_weight=weight), return_inverse=True)[1]
    weights = np.bincount(block, weight)
    knots = np.stack([np.bincount(block, weight * side) / weights for side in (predicted, actual)])
    kept: list[tuple[float, float]] = [(0.0, 0.0)]
    for p, a in knots.T.tolist():
        if p > kept[-1][0] * _STEP and a > kept[-1][1] * _STEP:
            kept.append((p, a))
    return MonotoneMap(*zip(*kept[1:], strict=True)) if len(kept) > 1 else MonotoneMap()


def _shrunk_scale(predicted_K: np.ndarray, actual_K: np.ndarray) -> float:
    """Sum of actual / sum of predicted, drawn to 1 as far as it is uncertain."""
    scale = actual_K.sum() / predicted_K.sum()
    error = np.sqrt(((actual_K - scale * predicted_K) ** 2).sum()) / actual_K.sum()
    return float(np.exp(np.log(scale) / (1 + (error / _PRIOR_LOG_SD) ** 2)))


def to_lists(maps: Sequence[MonotoneMap]) -> list[list[list[float]]]:
    return [[list(m.predicted), list(m.actual)] for m in maps]


def from_lists(values: Sequence[Sequence[Sequence[float]]]) -> tuple[MonotoneMap, ...]:
    return tuple(MonotoneMap(tuple(predicted), tuple(actual)) for predicted, actual in values)
