"""Against outcomes whose true mean is the prediction: the floor must be what such a predictor shows."""

import math

import numpy as np
import pytest

from recsys.metrics.noise_floor import Floor, noise_floor, redrawn_from_law, redrawn_from_ratios
from recsys.metrics.value import decile_mape, total_bias

SIGMA, PAYS = 1.0, 0.5


def predictions(rng: np.random.Generator, num_users: int = 2000) -> np.ndarray:
    return rng.gamma(0.7, 200.0, num_users)


def outcomes(rng: np.random.Generator, predicted_U: np.ndarray, num: int) -> np.ndarray:
    """(num, U) of mean `predicted_U`: half spend nothing, the others a lognormal amount."""
    shape = (num, len(predicted_U))
    factor = (rng.random(shape) < PAYS) / PAYS * np.exp(rng.normal(-(SIGMA**2) / 2, SIGMA, shape))
    return predicted_U * factor


def test_by_hand() -> None:
    predicted = np.array([1.0, 3.0])
    drawn = np.array([[2.0, 6.0], [1.0, 1.0]])  # 4 / 8 - 1 = -0.5 and 4 / 2 - 1 = 1
    low, high = np.quantile([0.5, 1.0], [0.05, 0.95])
    assert noise_floor(total_bias, predicted, drawn) == Floor(0.75, low, high)
    assert math.isnan(noise_floor(total_bias, predicted, np.zeros((0, 2))).mean)


@pytest.mark.parametrize("has_law", [True, False])
@pytest.mark.parametrize("statistic", [decile_mape, total_bias], ids=lambda s: s.__name__)
def test_the_floor_is_what_a_perfect_predictor_shows(statistic, has_law: bool) -> None:  # type: ignore[no-untyped-def]
    """Over many worlds: the mean floor is the mean figure within its Monte Carlo error, and the 95th
    percentile is passed about once in twenty."""
    rng = np.random.default_rng(3)
    shown, floors = [], []
    for _ in range(60):
        predicted_U = predictions(rng)
        (actual_U,) = outcomes(rng, predicted_U, 1)
        shown.append(abs(statistic(actual_U, predicted_U)))
        drawn = (
            redrawn_from_law(outcomes(rng, predicted_U, 60).T.astype(np.float32))
            if has_law
            else redrawn_from_ratios(actual_U, predicted_U, num_draws=60)
        )
        floors.append(noise_floor(statistic, predicted_U, drawn))
    mean_floor = float(np.mean([floor.mean for floor in floors]))
    error = float(np.std(np.array(shown) - [floor.mean for floor in floors]) / np.sqrt(len(shown)))
    assert np.mean(shown) == pytest.approx(mean_floor, abs=3 * error)
    assert mean_floor > 5 * error  # the figure is far from 0, so the line above says something
    share_above = np.mean([s > floor.high for s, floor in zip(shown, floors, strict=True)])
    assert share_above <= 0.15


def test_an_error_of_level_is_no_noise() -> None:
    rng = np.random.default_rng(4)
    predicted_U = predictions(rng, 5000)
    (actual_U,) = outcomes(rng, predicted_U, 1)
    right = noise_floor(decile_mape, predicted_U, redrawn_from_ratios(actual_U, predicted_U))
    doubled = noise_floor(decile_mape, 2 * predicted_U, redrawn_from_ratios(actual_U, 2 * predicted_U))
    assert doubled.mean == pytest.approx(right.mean)
    assert abs(decile_mape(actual_U, 2 * predicted_U)) > doubled.high > decile_mape(actual_U, predicted_U)


def test_redrawn_outcomes_have_the_predictions_as_their_means() -> None:
    rng = np.random.default_rng(5)
    predicted_U = predictions(rng, 1000)
    (actual_U,) = outcomes(rng, predicted_U, 1)
    drawn_NU = redrawn_from_ratios(actual_U, predicted_U, num_draws=4000)
    assert drawn_NU.sum() / 4000 == pytest.approx(predicted_U.sum(), rel=0.02)
    assert drawn_NU[:, :100].mean(axis=0) == pytest.approx(predicted_U[:100], rel=0.25, abs=0.5)


def test_few_spenders_and_none() -> None:
    predicted_U = np.linspace(0, 1, 30)
    assert (redrawn_from_ratios(np.zeros(30), predicted_U) == 0).all()
    few = np.where(np.arange(30) % 10 == 0, 5.0, 0.0)
    drawn_NU = redrawn_from_ratios(few, predicted_U, num_draws=2000)
    assert np.isfinite(drawn_NU).all()
    assert drawn_NU.mean(axis=0).sum() == pytest.approx(predicted_U.sum(), rel=0.1)
    assert (redrawn_from_ratios(few, np.zeros(30)) == 0).all()
