"""Whether a predictive law is as wide as it says: the probability integral transform (PIT) and what follows.

Legend: R resamples, U users, S draws of the law, Q bins.
"""

from __future__ import annotations

import functools

import numpy as np

from recsys.metrics.statistic import Statistic, TieGroups

NUM_PIT_BINS = 20


def randomised_pit(below_U: np.ndarray, up_to_U: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """P(law < y) + v P(law = y), v uniform in (0, 1): uniform where the law is right, atoms or not.

    Source: Czado, Gneiting and Held 2009, "Predictive model assessment for count data", eq. 2, drawn.

    Args:
        below_U: probability of the law strictly below the outcome, shape (U,).
        up_to_U: probability at or below the outcome, shape (U,).
    """
    assert (below_U <= up_to_U).all(), "a distribution function does not fall"
    rng = np.random.default_rng([seed, *b"pit"])  # a stream of its own: outcomes or draws may be of that seed
    return below_U + rng.random(len(below_U)) * (up_to_U - below_U)


def pit_of_draws(actual_U: np.ndarray, draws_US: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """(#{draws < y} + v (#{draws = y} + 1)) / (S + 1), shape (U,).

    The outcome counts as one more draw of the law, which makes this exactly uniform for any S. Outcomes are
    compared in the dtype of the draws.
    """
    outcome_U1 = np.asarray(actual_U, draws_US.dtype)[:, None]
    num_below_U = (draws_US < outcome_U1).sum(axis=1)
    num_up_to_U = (draws_US <= outcome_U1).sum(axis=1)
    num_draws = draws_US.shape[1]
    return randomised_pit(num_below_U / (num_draws + 1), (num_up_to_U + 1) / (num_draws + 1), seed=seed)


def is_covered(pit_U: np.ndarray, level: float) -> np.ndarray:
    """1.0 where the outcome lies in the central interval of that probability, else 0.0; shape (U,).

    Its mean is the coverage, `level` for a right law: 0.9 asks for the PIT within 0.05 .. 0.95.
    """
    return (np.abs(pit_U - 0.5) <= level / 2).astype(np.float64)


@functools.partial(Statistic, centred=True, least=0.0, most=1.0)
def ks_distance(pit_U: np.ndarray, weight_RU: np.ndarray) -> np.ndarray:
    """Largest gap between the share of users up to a PIT and that PIT: 0 is right (Kolmogorov)."""
    groups = TieGroups(pit_U)
    (weight_RG,) = groups.sums(weight_RU)
    at_G = np.unique(pit_U)
    up_to_RG = np.cumsum(weight_RG, axis=1) / weight_RG.sum(axis=1, keepdims=True)
    below_RG = np.concatenate([np.zeros((len(up_to_RG), 1)), up_to_RG[:, :-1]], axis=1)
    return np.maximum(np.abs(up_to_RG - at_G), np.abs(at_G - below_RG)).max(axis=1)


def pit_histogram(pit_U: np.ndarray, *, num_bins: int = NUM_PIT_BINS) -> np.ndarray:
    """int64 (Q,): users in each of the bins of equal width over 0 .. 1; level where the law is right."""
    return np.histogram(pit_U, bins=num_bins, range=(0.0, 1.0))[0].astype(np.int64)
