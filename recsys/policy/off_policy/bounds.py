"""Intervals and lower bounds of an estimate, users as clusters.

    bootstrap    of users: percentile (Efron 1979), studentised (Efron & Tibshirani 1993, chapter 12)
    t            Student's t over the users' influences
    bernstein    empirical Bernstein (Maurer & Pontil 2009, theorem 11): the one that holds for every number
                 of users, where each user's value lies in a known range

Legend: U users, T ratios, K sums (2 T), R resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from recsys.metrics.interval import Interval, resamples
from recsys.policy.off_policy.contributions import Contributions


@dataclass(frozen=True)
class Bounds:
    """`interval` is two-sided, `lower` one-sided, both at the level asked for; NaN where undefined."""

    interval: Interval
    lower: float


def t_bounds(contributions: Contributions, *, level: float = 0.95, extra_variance: float = 0.0) -> Bounds:
    """`extra_variance` is added to that of the estimate: of something estimated from other users."""
    num_users = contributions.num_users
    if num_users < 2:
        return _undefined(contributions.value)
    value = contributions.value
    error = math.hypot(contributions.standard_error, math.sqrt(extra_variance))
    two_sided = error * float(stats.t.ppf((1 + level) / 2, num_users - 1))
    one_sided = error * float(stats.t.ppf(level, num_users - 1))
    return Bounds(Interval(value, value - two_sided, value + two_sided), value - one_sided)


def bootstrap_bounds(
    contributions: Contributions, *, level: float = 0.95, num_resamples: int = 1000, seed: int = 0
) -> dict[str, Bounds]:
    """`percentile` and `studentised` bounds from the same resamples of the users."""
    value = contributions.value
    if contributions.num_users < 2 or not math.isfinite(value):
        return {name: _undefined(value) for name in ("percentile", "studentised")}
    values, errors = zip(
        *(
            _resampled(contributions, weight_RU)
            for weight_RU in resamples(contributions.num_users, num_resamples, seed)
        ),
        strict=True,
    )
    value_R, error_R = np.concatenate(values), np.concatenate(errors)
    error = contributions.standard_error
    with np.errstate(divide="ignore", invalid="ignore"):
        pivot_R = (value_R - value) / error_R
    tail = (1 - level) / 2
    low, high, lower = _quantiles(value_R, (tail, 1 - tail, 1 - level))
    pivot_high, pivot_low, pivot_lower = _quantiles(pivot_R, (1 - tail, tail, level))
    studentised = Interval(value, value - pivot_high * error, value - pivot_low * error)
    return {
        "percentile": Bounds(Interval(value, low, high), lower),
        "studentised": Bounds(studentised, value - pivot_lower * error),
    }


def bernstein_lower(value_U: np.ndarray, *, least: float, most: float, level: float = 0.95) -> float:
    """Lower bound of the mean of independent values in [least, most]; NaN for fewer than two users.

    mean - sqrt(2 var ln(2 / delta) / n) - 7 (most - least) ln(2 / delta) / (3 (n - 1)), delta = 1 - level.
    """
    num_users = len(value_U)
    if num_users < 2:
        return math.nan
    assert least <= value_U.min(), "a value lies below its range"
    assert value_U.max() <= most, "a value lies above its range"
    log_term = math.log(2 / (1 - level))
    spread = math.sqrt(2 * value_U.var(ddof=1) * log_term / num_users)
    return float(value_U.mean() - spread - 7 * (most - least) * log_term / (3 * (num_users - 1)))


def _resampled(contributions: Contributions, weight_RU: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The estimate and its standard error (delta method) in each resample, both (R,)."""
    num_users = contributions.num_users
    num_ratios = contributions.numerator_UT.shape[1]
    sums_UK = np.hstack([contributions.numerator_UT, contributions.denominator_UT])
    mean_RK = weight_RU @ sums_UK / num_users
    top_RT, bottom_RT = mean_RK[:, :num_ratios], mean_RK[:, num_ratios:]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio_RT = top_RT / bottom_RT
        gradient_RK = np.hstack([1 / bottom_RT, -ratio_RT / bottom_RT])
    variance_R = np.zeros(len(weight_RU))
    for first in range(sums_UK.shape[1]):  # gradient' second-moments gradient; the mean of the influence is 0
        second_moment_RK = weight_RU @ (sums_UK[:, first, None] * sums_UK) / num_users
        variance_R += gradient_RK[:, first] * (gradient_RK * second_moment_RK).sum(axis=1)
    return ratio_RT.sum(axis=1), np.sqrt(np.maximum(variance_R, 0.0) / (num_users - 1))


def _quantiles(values_R: np.ndarray, at: tuple[float, ...]) -> list[float]:
    values_R = values_R[np.isfinite(values_R)]
    return [float(q) for q in np.quantile(values_R, at)] if len(values_R) else [math.nan] * len(at)


def _undefined(value: float) -> Bounds:
    return Bounds(Interval(value, math.nan, math.nan), math.nan)
