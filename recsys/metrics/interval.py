"""Percentile bootstrap over users (Efron 1979): every figure with its interval, every difference paired.

Every function draws the same resamples for the same number of users, `num_resamples` and `seed`, so figures
of one evaluation share them.

Legend: R resamples, U users, M measures.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from recsys.metrics.statistic import Statistic

CELLS_PER_CHUNK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A figure and the ends of its interval; NaN where undefined."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """For JSON: None where undefined."""
        named = {"value": self.value, "low": self.low, "high": self.high}
        return {name: float(x) if math.isfinite(x) else None for name, x in named.items()}


def bootstrap(
    statistic: Statistic | Callable[..., float],
    *arrays_U: np.ndarray,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """`statistic(*arrays_U)` with its interval.

    A `Statistic` is computed for many resamples at once; any other callable once per resample on repeated
    rows. Resamples where the statistic is undefined (NaN) are left out.

    Args:
        arrays_U: arrays whose first dimension is users; all are resampled together.
    """
    num_users = len(arrays_U[0])
    assert all(len(array) == num_users for array in arrays_U), "arrays must have the same users"
    if num_users == 0:
        return Interval(math.nan, math.nan, math.nan)
    parts = []
    for weight_RU in resamples(num_users, num_resamples, seed):
        if isinstance(statistic, Statistic):
            parts.append(statistic.resampled(*arrays_U, weight_RU=weight_RU))
        else:
            drawn = (np.repeat(np.arange(num_users), weights.astype(np.int64)) for weights in weight_RU)
            parts.append(np.array([statistic(*(array[rows] for array in arrays_U)) for rows in drawn]))
    resampled_R = np.concatenate(parts)
    if not isinstance(statistic, Statistic):
        return _interval(statistic(*arrays_U), resampled_R, level)
    found = _interval(statistic(*arrays_U), resampled_R, level, centred=statistic.centred)
    low, high = (float(np.clip(end, statistic.least, statistic.most)) for end in (found.low, found.high))
    return Interval(found.value, low, high)


def mean_intervals(
    measures: Mapping[str, np.ndarray], *, num_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Mean over users of each per-user array (shape (U,)) with its interval.

    A NaN says that a measure is undefined for a user; that user is left out of that mean.
    """
    if not measures:
        return {}
    values_UM = np.stack([np.asarray(array, dtype=np.float64) for array in measures.values()], axis=1)
    num_users = len(values_UM)
    if num_users == 0:
        return {name: Interval(math.nan, math.nan, math.nan) for name in measures}
    is_defined_UM = np.isfinite(values_UM).astype(np.float64)
    filled_UM = np.where(is_defined_UM > 0, values_UM, 0.0)

    def means(weight_RU: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return (weight_RU @ filled_UM) / (weight_RU @ is_defined_UM)

    mean_M = means(np.ones((1, num_users)))[0]
    resampled_RM = np.concatenate([means(weight) for weight in resamples(num_users, num_resamples, seed)])
    return {name: _interval(mean_M[m], resampled_RM[:, m], level) for m, name in enumerate(measures)}


def mean_interval(
    values_U: np.ndarray, *, num_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Mean over users with its interval; see `mean_intervals`."""
    return mean_intervals({"mean": values_U}, num_resamples=num_resamples, seed=seed, level=level)["mean"]


def paired_difference(
    a_U: np.ndarray, b_U: np.ndarray, *, num_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Mean of a - b over the same users with its interval."""
    return mean_interval(
        np.asarray(a_U, np.float64) - np.asarray(b_U, np.float64),
        num_resamples=num_resamples,
        seed=seed,
        level=level,
    )


def paired_statistic_difference(
    statistic: Statistic | Callable[..., float],
    actual_U: np.ndarray,
    predicted_a_U: np.ndarray,
    predicted_b_U: np.ndarray,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """statistic(actual, a) - statistic(actual, b), both on the same resampled users, with its interval."""
    difference: Statistic | Callable[..., float]
    if isinstance(statistic, Statistic):
        weighted = statistic.resampled
        difference = Statistic(
            lambda actual, a, b, w: weighted(actual, a, weight_RU=w) - weighted(actual, b, weight_RU=w),
            centred=statistic.centred,
        )
    else:
        plain = statistic
        difference = lambda actual, a, b: plain(actual, a) - plain(actual, b)  # noqa: E731
    return bootstrap(
        difference,
        actual_U,
        predicted_a_U,
        predicted_b_U,
        num_resamples=num_resamples,
        seed=seed,
        level=level,
    )


def resamples(num_users: int, num_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Weights (R, U) of `num_resamples` resamples of the users, a chunk at a time."""
    chunk_rows = max(1, min(num_resamples, CELLS_PER_CHUNK // num_users))
    for chunk, start in enumerate(range(0, num_resamples, chunk_rows)):
        yield _draw(num_users, min(chunk_rows, num_resamples - start), seed, chunk)


@functools.lru_cache(maxsize=2)
def _draw(num_users: int, num_rows: int, seed: int, chunk: int) -> np.ndarray:
    drawn_RU = np.random.default_rng((seed, chunk)).integers(num_users, size=(num_rows, num_users))
    drawn_RU += np.arange(num_rows)[:, None] * num_users
    counts = np.bincount(drawn_RU.ravel(), minlength=num_rows * num_users)
    weight_RU = counts.reshape(num_rows, num_users).astype(np.float64)
    weight_RU.flags.writeable = False  # kept for the next figure over the same users
    return weight_RU


def _interval(value: float, resampled_R: np.ndarray, level: float, *, centred: bool = False) -> Interval:
    resampled_R = resampled_R[np.isfinite(resampled_R)]
    if not len(resampled_R):
        return Interval(float(value), math.nan, math.nan)
    low, middle, high = np.quantile(resampled_R, [(1 - level) / 2, 0.5, (1 + level) / 2])
    if centred:
        low, high = low + value - middle, high + value - middle
    if np.isclose(low, high, rtol=1e-9, atol=0):  # nothing varies but the last digit
        low, high = min(low, value), max(high, value)
    return Interval(float(value), float(low), float(high))
