"""The population's increments against BG/NBD's own sums, and a constant rate where it cannot be fitted."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.baselines.interactions import Interactions
from recsys.baselines.value import BgNbdGammaGamma, BgNbdPurchases
from recsys.valuation.decay import Decay

DAY = 86_400


def interactions(*, again: bool, num_users: int = 300) -> Interactions:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 60, num_users)
    user, day = [np.arange(num_users)], [first]
    for _ in range(3 if again else 0):
        some = rng.random(num_users) < 0.4
        user.append(np.flatnonzero(some))
        day.append(first[some] + rng.integers(1, 100, some.sum()))
    row, days = np.concatenate(user), np.concatenate(day)
    return Interactions.from_events(
        row=row,
        item_index=np.ones(len(row), np.int64),
        timestamp=days * DAY,
        value=rng.lognormal(3, 0.5, len(row)),
        is_target=np.ones(len(row), bool),
        is_purchase=np.ones(len(row), bool),
        num_users=num_users,
        num_items=1,
        cut=200 * DAY,
    )


def test_increments_are_those_of_the_fitted_baseline() -> None:
    known = interactions(again=True)
    decay = Decay(known)
    expected = BgNbdGammaGamma(purchases=BgNbdPurchases(interactions=known)).spend([30, 90, 360]).sum(axis=0)
    found = decay.increments(known, [30, 90, 360])
    assert found == pytest.approx(np.diff(expected, prepend=0.0), rel=1e-6)
    assert found[2] / 270 < found[1] / 60 < found[0] / 30  # a day further off brings less
    assert decay.source == "BG/NBD x Gamma-Gamma"


def test_hazards_add_up_to_the_share_that_returns() -> None:
    known = interactions(again=True)
    purchases = BgNbdPurchases(interactions=known)
    returned = purchases.probability_of_purchase([90]).mean()
    assert 1 - np.exp(-Decay(known).hazards(known, [30, 90]).sum()) == pytest.approx(returned, rel=1e-6)


def test_where_nobody_bought_twice_buying_goes_on_as_it_is() -> None:
    known = interactions(again=False)
    decay = Decay(known)
    assert decay.increments(known, [7, 30]).tolist() == [2100.0, 6900.0]  # 300 users
    assert decay.hazards(known, [7, 30]).tolist() == [7.0, 23.0]
    assert decay.source == "a constant rate"
