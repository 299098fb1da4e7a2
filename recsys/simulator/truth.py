"""The true long-term value of every user under a policy: the spend of all days, discounted by the day."""

from __future__ import annotations

import numpy as np

from recsys.settings import check_range
from recsys.simulator.market import Day, Market, is_alive


class Ledger:
    """Money and visits of each user from the market's day at its making on. All arrays are float64 (U,).

    value_U: sum of discount^(day - first day) x spend, the V_H of a horizon that is the days added; spend_U:
    undiscounted; first_spend_U, first_clicks_U: of the first visit, what is put off not counted.
    """

    def __init__(self, market: Market, *, discount_per_day: float) -> None:
        check_range("discount_per_day", discount_per_day, above=0, most=1)
        num_users = len(market.users)
        self._market, self._discount, self._first_day = market, discount_per_day, market.state.day
        self.value_U, self.spend_U = np.zeros(num_users), np.zeros(num_users)
        self.first_spend_U, self.first_clicks_U = np.zeros(num_users), np.zeros(num_users)
        self.num_visits_U = np.zeros(num_users)

    def add(self, day: Day) -> None:
        """What a day brought."""
        user_B, spend_B = day.scene.user_B, day.spend_BK.sum(axis=1)
        first_B = self.num_visits_U[user_B] == 0
        self.first_spend_U[user_B[first_B]] = spend_B[first_B]
        self.first_clicks_U[user_B[first_B]] = day.done.clicked_BK[first_B].sum(axis=1)
        self.num_visits_U[user_B] += 1
        spend_U = np.bincount(user_B, weights=spend_B, minlength=len(self.spend_U))
        late_R = day.scene.items.price_V[day.late_item_R]
        spend_U += np.bincount(day.late_user_R, weights=late_R, minlength=len(self.spend_U))
        self.spend_U += spend_U
        self.value_U += self._discount ** (day.scene.day - self._first_day) * spend_U

    def retention(self, days: int) -> float | None:
        """Share of users not gone for good `days` after arrival; None where nobody was watched as long."""
        arrival_U = self._market.users.arrival_U
        watched_U = arrival_U + days <= self._market.state.day
        if not watched_U.any():
            return None
        return float(is_alive(self._market.state, at_day_U=arrival_U + days)[watched_U].mean())
