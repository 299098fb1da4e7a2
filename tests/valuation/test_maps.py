"""Maps keep the order, are right on average, and have no more knots than the data speaks for."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.valuation.maps import MonotoneMap, binned_map, fit_map, from_lists, to_lists


def test_between_the_knots_it_is_linear_and_beyond_it_keeps_the_last_ratio() -> None:
    found = MonotoneMap((2.0, 4.0), (1.0, 4.0))
    assert found(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 8.0])).tolist() == [0.0, 0.5, 1.0, 2.5, 4.0, 8.0]


def test_bins_out_of_order_are_pooled_and_the_order_stays() -> None:
    predicted = np.array([1.0, 1.0, 2.0, 2.0, 3.0, 3.0])
    found = binned_map(predicted, np.array([1.0, 1.0, 5.0, 5.0, 3.0, 3.0]), 3)
    assert found.predicted == pytest.approx((1.0, 2.5))
    assert found.actual == pytest.approx((1.0, 4.0))
    assert (np.diff(found(np.linspace(0, 9, 50))) > 0).all()


def test_a_level_that_is_off_is_mended_by_a_scale_alone() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.lognormal(size=4000)
    actual = rng.poisson(0.7 * predicted).astype(float)
    found = fit_map(predicted, actual, np.arange(4000))
    assert len(found.actual) == 1
    assert found.actual[0] == pytest.approx(0.7, rel=0.05)


def test_a_bent_prediction_gets_knots() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0, 3, 4000)
    actual = rng.poisson(predicted**2).astype(float)
    found = fit_map(predicted, actual, np.arange(4000))
    assert len(found.actual) > 1
    assert found(np.array([1.0, 2.0])) == pytest.approx([1.0, 4.0], rel=0.15)


def test_a_handful_of_payers_moves_the_level_little() -> None:
    predicted, actual = np.full(200, 1.0), np.zeros(200)
    actual[0] = 1000.0  # five times what was predicted, all from one user
    assert 1 < fit_map(predicted, actual, np.arange(200)).actual[0] < 1.1


def test_without_anything_to_learn_from_it_changes_nothing() -> None:
    found = fit_map(np.ones(10), np.zeros(10), np.arange(10))
    assert found(np.array([3.0])).tolist() == [3.0]
    assert found == MonotoneMap()


def test_they_come_back_from_lists() -> None:
    maps = (MonotoneMap(), MonotoneMap((1.0, 2.0), (0.5, 3.0)))
    assert from_lists(to_lists(maps)) == maps
