"""Against figures published for the CDNOW customers, the closed form, and simulated customers."""

import itertools

import numpy as np
import pytest
from scipy.special import hyp2f1

from recsys.baselines.bg_nbd import BgNbd, fit_bg_nbd
from recsys.schema import InputError

CDNOW = BgNbd(r=0.243, alpha=4.414, a=0.793, b=2.426)  # Fader, Hardie and Lee 2005, table 2; weeks


def history(frequency: float, recency: float, age: float) -> dict[str, np.ndarray]:
    return {
        "frequency": np.array([frequency]),
        "recency": np.array([recency]),
        "age": np.array([age]),
    }


def simulate(
    rng: np.random.Generator, model: BgNbd, age: np.ndarray, horizon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Repeat purchases and last one up to `age`, and purchases in the horizon after, customer by customer."""
    rate = rng.gamma(model.r, 1 / model.alpha, len(age))
    leave = rng.beta(model.a, model.b, len(age))
    frequency, recency, future = np.zeros(len(age)), np.zeros(len(age)), np.zeros(len(age))
    now, active = np.zeros(len(age)), np.ones(len(age), dtype=bool)
    while active.any():
        now = now + rng.exponential(1 / np.maximum(rate, 1e-300))
        active &= now <= age + horizon
        is_past = active & (now <= age)
        frequency += is_past
        recency = np.where(is_past, now, recency)
        future += active & ~is_past
        active &= rng.random(len(age)) >= leave
    return frequency, recency, future


def test_published_expectation() -> None:
    found = CDNOW.expected_purchases(horizon=39.0, **history(2, 30.43, 38.86))
    assert found == pytest.approx([1.226], abs=5e-4)


def test_expectation_equals_the_closed_form() -> None:
    for a, x, horizon in itertools.product((0.3, 0.793, 2.5), (0, 2, 25), (1.0, 39.0, 200.0)):
        model = BgNbd(r=0.7, alpha=4.414, a=a, b=2.426)
        given = history(x, 0.9 * 38.86 if x else 0.0, 38.86)
        # Eq. 10 of the paper, as printed.
        whole = model.alpha + 38.86 + horizon
        power = ((model.alpha + 38.86) / whole) ** (model.r + x)
        hyper = hyp2f1(model.r + x, model.b + x, a + model.b + x - 1, horizon / whole)
        expected = (a + model.b + x - 1) / (a - 1) * (1 - power * hyper)
        expected *= model.probability_active(**given)
        assert model.expected_purchases(horizon=horizon, **given) == pytest.approx(expected, rel=1e-6)


def test_expectation_has_no_pole_at_one() -> None:
    found = [
        BgNbd(r=0.3, alpha=4.0, a=a, b=2.0).expected_purchases(horizon=39.0, **history(2, 30.0, 38.0))[0]
        for a in (0.999, 1.0, 1.001)
    ]
    assert found[0] > found[1] > found[2]
    assert found[1] == pytest.approx((found[0] + found[2]) / 2, rel=1e-5)


def test_busy_customers_stay_finite() -> None:
    found = CDNOW.expected_purchases(horizon=730.0, **history(1500, 300.0, 300.0))
    assert np.isfinite(found).all()
    assert (found > 0).all()


def test_parameters_and_expectations_match_simulated_customers() -> None:
    rng = np.random.default_rng(0)
    truth = BgNbd(r=0.6, alpha=20.0, a=0.8, b=2.5)
    horizon = 90.0
    age = rng.uniform(100, 300, 20_000)
    frequency, recency, future = simulate(rng, truth, age, horizon)
    given = {"frequency": frequency, "recency": recency, "age": age}

    found = fit_bg_nbd(frequency=frequency[:8000], recency=recency[:8000], age=age[:8000])
    assert (found.r, found.alpha) == pytest.approx((truth.r, truth.alpha), rel=0.1)
    assert found.a / (found.a + found.b) == pytest.approx(0.8 / 3.3, rel=0.1)

    expected = truth.expected_purchases(horizon=horizon, **given)
    chance = truth.probability_of_purchase(horizon=horizon, **given)
    for group in (frequency == 0, (frequency > 0) & (recency > 0.7 * age), frequency > 10):
        spread = future[group].std() / np.sqrt(group.sum())
        assert abs(expected[group].mean() - future[group].mean()) < 4 * spread
        is_buyer = future[group] > 0
        spread = is_buyer.std() / np.sqrt(group.sum())
        assert abs(chance[group].mean() - is_buyer.mean()) < 4 * spread


def test_scale_of_time_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    age = rng.uniform(100, 300, 1000)
    frequency, recency, _ = simulate(rng, BgNbd(r=0.6, alpha=20.0, a=0.8, b=2.5), age, 1.0)
    days = fit_bg_nbd(frequency=frequency, recency=recency, age=age)
    weeks = fit_bg_nbd(frequency=frequency, recency=recency / 7, age=age / 7)
    assert (weeks.r, weeks.alpha * 7, weeks.a, weeks.b) == pytest.approx(
        (days.r, days.alpha, days.a, days.b), rel=1e-2
    )


def test_no_repeat_purchases_are_refused() -> None:
    with pytest.raises(InputError, match="repeat purchases"):
        fit_bg_nbd(frequency=np.zeros(5), recency=np.zeros(5), age=np.ones(5))
