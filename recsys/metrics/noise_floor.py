"""What a perfect predictor would show on these users.

A decile error or a bias is above 0 even where every prediction is the true mean, since outcomes vary around
it and a few large buyers move whole deciles. The floor is the distribution of the figure over outcomes drawn
anew with the prediction as their mean: where the model's own figure lies inside it, these users cannot tell
the model from a perfect one.

Legend: U users, N redrawn outcomes of all users, S draws of a predictive law.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.metrics.statistic import Statistic
from recsys.metrics.value import NUM_DECILES

NUM_DRAWS = 300
_LEAST_SHARE = (
    1e-3  # of the mean: smaller predictions count as this, or one lucky user would be all the noise
)
_MIN_SPENDERS = 10  # in a group whose noise is taken for that of its users


@dataclass(frozen=True)
class Floor:
    """Of |figure|: its mean and the 5th and 95th percentile over redrawn outcomes."""

    mean: float
    low: float
    high: float


def noise_floor(statistic: Statistic, predicted_U: np.ndarray, outcomes_NU: np.ndarray) -> Floor:
    """The size of `statistic(outcome, predicted)` over redrawn outcomes; NaN where it is never defined."""
    sizes_N = np.array([abs(statistic(outcome_U, predicted_U)) for outcome_U in outcomes_NU])
    sizes_N = sizes_N[np.isfinite(sizes_N)]
    if not len(sizes_N):
        return Floor(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(sizes_N, [0.05, 0.95])
    return Floor(float(sizes_N.mean()), float(low), float(high))


def redrawn_from_law(draws_US: np.ndarray) -> np.ndarray:
    """(N, U): each draw of the predictive law as one outcome of everybody; N is S, at most 300.

    Assumes that the law is right, which coverage and PIT judge, and that users are independent of each other:
    a good or bad season of all of them together comes on top.
    """
    return np.ascontiguousarray(draws_US[:, :NUM_DRAWS].T, dtype=np.float64)


def redrawn_from_ratios(
    actual_U: np.ndarray, predicted_U: np.ndarray, *, num_draws: int = NUM_DRAWS, seed: int = 0
) -> np.ndarray:
    """(N, U) without a law: prediction x the ratio actual / predicted of a user with a like prediction.

    Users are taken in tenths by prediction, merged upwards until ten of each spent; ratios are divided by
    their mean within it, so that the model's own error of level is no noise. Assumes that within a group the
    noise grows with the prediction, and that the outcomes seen hold the whole of it: with few spenders the
    largest outcomes that could come are missing, and the floor comes out low rather than high.
    """
    floored_U = np.maximum(predicted_U, _LEAST_SHARE * max(float(np.mean(predicted_U)), 0.0))
    ratio_U = np.divide(actual_U, floored_U, out=np.zeros(len(actual_U)), where=floored_U > 0)
    rng = np.random.default_rng([seed, *b"floor"])
    outcomes_NU = np.zeros((num_draws, len(actual_U)))
    for rows in _like_predictions(actual_U, predicted_U, ratio_U):
        drawn_NG = rng.choice(ratio_U[rows] / ratio_U[rows].mean(), size=(num_draws, len(rows)))
        outcomes_NU[:, rows] = predicted_U[rows] * drawn_NG
    return outcomes_NU


def _like_predictions(actual_U: np.ndarray, predicted_U: np.ndarray, ratio_U: np.ndarray) -> list[np.ndarray]:
    """Rows of each group, none where nobody spent."""
    groups: list[np.ndarray] = []
    waiting = np.zeros(0, np.int64)
    for tenth in np.array_split(np.argsort(predicted_U, kind="stable"), NUM_DECILES):
        waiting = np.r_[waiting, tenth]
        if (actual_U[waiting] > 0).sum() >= _MIN_SPENDERS and ratio_U[waiting].mean() > 0:
            groups.append(waiting)
            waiting = waiting[:0]
    if len(waiting):
        rest = np.r_[groups.pop(), waiting] if groups else waiting
        if ratio_U[rest].mean() > 0:
            groups.append(rest)
    return groups
