"""The ledger against what happened, and retention against who had left when."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.simulator.items import NEVER
from recsys.simulator.market import Market
from recsys.simulator.policies import Ranked, expected_revenue
from recsys.simulator.truth import Ledger
from tests.simulator.worlds import load_world


def test_value_is_the_discounted_spend_of_every_day() -> None:
    market = Market(world=load_world(choice={"buy_bias": 1.0}), num_users=80, num_items=50, seed=1)
    policy = Ranked(expected_revenue, slate_size=5, shelf_size=50)
    market.day(policy)  # a ledger may begin later
    ledger = Ledger(market, discount_per_day=0.5)
    value, spend, first = np.zeros(80), np.zeros(80), {}
    for age in range(30):
        day = market.day(policy)
        ledger.add(day)
        for row, user in enumerate(day.scene.user_B.tolist()):
            bought = day.done.bought_BK[row]
            paid = sum(market.items.price_V[item] for item in day.shown.item_BK[row][bought])
            first.setdefault(user, (paid, day.done.clicked_BK[row].sum()))
            value[user] += 0.5**age * paid
            spend[user] += paid
        for user, item in zip(day.late_user_R.tolist(), day.late_item_R.tolist(), strict=True):
            value[user] += 0.5**age * market.items.price_V[item]
            spend[user] += market.items.price_V[item]
    assert spend.sum() > 100
    np.testing.assert_allclose(ledger.value_U, value)
    np.testing.assert_allclose(ledger.spend_U, spend)
    for user, (paid, clicks) in first.items():
        assert ledger.first_spend_U[user] == pytest.approx(paid)
        assert ledger.first_clicks_U[user] == clicks


def test_retention_counts_those_watched_long_enough() -> None:
    market = Market(world=load_world(), num_users=4, num_items=5, seed=0)
    market.users.arrival_U[:] = [0, 0, 5, 11]
    market.state.churned_at_U[:] = [10, 11, NEVER, NEVER]
    market.state.day = 20
    ledger = Ledger(market, discount_per_day=1.0)
    assert ledger.retention(10) == pytest.approx(2 / 3)  # one left on day 10; one came too late to tell
    assert ledger.retention(20) == 0.0
    assert ledger.retention(21) is None
