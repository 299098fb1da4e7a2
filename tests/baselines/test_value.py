from collections.abc import Callable

import numpy as np
import pytest

from recsys.baselines.interactions import Interactions
from recsys.baselines.value import BgNbdGammaGamma, BgNbdPurchases, PastSpend
from recsys.schema import SECONDS_PER_DAY, InputError

Make = Callable[..., Interactions]


def test_past_spend_by_hand(purchases: Make) -> None:
    # User 0: 60 in 50 days; user 1: 30 in 10 days, which count as 30; user 2 never came.
    events = [(0, 1, 50, 40.0), (0, 1, 80, 20.0), (1, 1, 90, 30.0)]
    found = PastSpend(interactions=purchases(events, num_users=3, num_items=1))
    assert found.score().tolist() == [60, 30, 0]
    assert found.spend([10, 100]) == pytest.approx(np.array([[12, 120], [10, 100], [0, 0]]))


def simulated(*, return_share: float, num_users: int = 3000) -> tuple[Interactions, np.ndarray]:
    """Customers who buy daily goods at their own rate and never leave; true spend per day before returns."""
    rng = np.random.default_rng(0)
    num_days = 200
    chance_U = rng.beta(0.6, 12, num_users)
    money_U = 10 + rng.gamma(3, 10, num_users)
    row, day = np.nonzero(rng.random((num_users, num_days)) < chance_U[:, None])
    value = money_U[row] * rng.gamma(4, 1 / 4, len(row))
    num_purchases = len(row)
    is_purchase = np.repeat([True, False], num_purchases)
    return Interactions.from_events(
        row=np.tile(row, 2),
        item_index=np.ones(2 * num_purchases, int),
        timestamp=np.tile(day, 2) * SECONDS_PER_DAY,
        value=np.concatenate([value, -return_share * value]),
        is_target=is_purchase,
        is_purchase=is_purchase,
        num_users=num_users,
        num_items=1,
        cut=num_days * SECONDS_PER_DAY,
    ), chance_U * money_U


def test_expected_spend_fits_the_future_of_simulated_buyers() -> None:
    interactions, per_day_U = simulated(return_share=0.25)
    found = BgNbdGammaGamma(purchases=BgNbdPurchases(interactions=interactions))
    spend_UH = found.spend([30, 90])
    bought_U = np.diff(interactions.offsets) > 0
    assert spend_UH.shape == (3000, 2)
    assert (spend_UH[~bought_U] == 0).all()
    assert (spend_UH[bought_U, 1] > spend_UH[bought_U, 0]).all()
    total = spend_UH[bought_U].sum(axis=0)
    expected = 0.75 * per_day_U[bought_U].sum() * np.array([30, 90])
    # A day holds one purchase at most here, which the Poisson model does not know; nobody leaves.
    assert total == pytest.approx(expected, rel=0.1)
    assert np.corrcoef(spend_UH[bought_U, 1], per_day_U[bought_U])[0, 1] > 0.8


def test_chance_of_purchase_rises_with_the_horizon() -> None:
    interactions, _ = simulated(return_share=0.0, num_users=500)
    chance_UH = BgNbdPurchases(interactions=interactions).probability_of_purchase([7, 90])
    bought_U = np.diff(interactions.offsets) > 0
    assert ((chance_UH >= 0) & (chance_UH <= 1)).all()
    assert (chance_UH[bought_U, 1] > chance_UH[bought_U, 0]).all()
    assert (chance_UH[~bought_U] == 0).all()


def test_data_without_times_is_refused(purchases: Make) -> None:
    timeless = purchases([(0, 1, 1, 1.0)], num_users=1, num_items=1, has_time=False)
    for kind in (PastSpend, BgNbdPurchases):
        with pytest.raises(InputError, match="event times"):
            kind(interactions=timeless)
