"""Against hand calculations, scipy and laws that are known to be right or wrong."""

import math

import numpy as np
import pytest
from scipy.stats import kstest

from recsys.metrics.interval import bootstrap, mean_interval
from recsys.metrics.predictive import (
    is_covered,
    ks_distance,
    pit_histogram,
    pit_of_draws,
    randomised_pit,
)


def test_pit_by_hand() -> None:
    draws = np.array([[0.0, 0.0, 4.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], np.float32)
    actual = np.array([0.0, 2.5, -1.0])
    v = randomised_pit(np.zeros(3), np.ones(3), seed=7)
    assert ((v > 0) & (v < 1)).all()
    expected = [(0 + v[0] * 3) / 4, (2 + v[1] * 1) / 4, (0 + v[2] * 1) / 4]
    assert pit_of_draws(actual, draws, seed=7) == pytest.approx(expected)


def test_an_atom_is_spread_over_its_probability() -> None:
    pit = randomised_pit(np.full(4000, 0.2), np.full(4000, 0.7))
    assert (pit.min() >= 0.2) & (pit.max() <= 0.7)
    assert kstest((pit - 0.2) / 0.5, "uniform").pvalue > 0.001
    assert (randomised_pit(np.array([0.3]), np.array([0.3])) == 0.3).all()


def spend(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return (rng.random(shape) < 0.4) * np.exp(rng.normal(3, 1, shape))


def test_a_right_law_is_covered_as_it_says_and_a_narrow_one_is_not() -> None:
    rng = np.random.default_rng(0)
    actual, draws = spend(rng, (4000,)), spend(rng, (4000, 200)).astype(np.float32)
    pit = pit_of_draws(actual, draws)
    for level in (0.9, 0.5):
        interval = mean_interval(is_covered(pit, level))
        assert interval.low <= level <= interval.high
    assert kstest(pit, "uniform").pvalue > 0.001
    narrow = draws * np.float32(0.3) + np.float32(0.7 * draws.mean())
    assert is_covered(pit_of_draws(actual, narrow), 0.9).mean() < 0.6


def test_coverage_by_hand() -> None:
    pit = np.array([0.04, 0.05, 0.5, 0.95, 0.96])
    assert is_covered(pit, 0.9).tolist() == [0, 1, 1, 1, 0]
    assert is_covered(pit, 0.5).tolist() == [0, 0, 1, 0, 0]


def test_ks_agrees_with_scipy_and_its_interval_holds_it() -> None:
    pit = np.round(np.random.default_rng(1).beta(2, 1, 300), 2)  # with ties
    assert ks_distance(pit) == pytest.approx(kstest(pit, "uniform").statistic)
    interval = bootstrap(ks_distance, pit)
    assert interval.low < interval.value < interval.high
    assert math.isnan(ks_distance(np.zeros(0)))


def test_ks_of_weights_is_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(2)
    pit, weight_RU = rng.random(40), rng.integers(0, 4, (5, 40)).astype(float)
    expected = [ks_distance(np.repeat(pit, weights.astype(int))) for weights in weight_RU]
    assert ks_distance.resampled(pit, weight_RU=weight_RU) == pytest.approx(expected)


def test_histogram_counts_both_ends() -> None:
    assert pit_histogram(np.array([0.0, 0.24, 0.25, 1.0]), num_bins=4).tolist() == [2, 1, 0, 1]
