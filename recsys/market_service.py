"""A bundle in service: it scores whoever comes, from the market's own log up to the last renewal.

What `recommend` would answer if the log were turned into tables every `renew_days` and all were asked again;
nothing is trained anew. Users are scored when they come, by the state at the renewal before.

Legend: that of recsys.simulator.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from recsys.bundle import Bundle
from recsys.data.tables import FeatureTables
from recsys.market_tables import GrowingLog
from recsys.policy.slates import PolicyConfig
from recsys.pseudonym import Key
from recsys.recommendation import Recommender
from recsys.schema import PAD, Split
from recsys.simulator.market import Day, Market
from recsys.simulator.scene import Scene

_USERS_PER_BLOCK = 1024


class Service:
    """Scores of those present, and the days to learn of them from. `tables`: of the log up to now."""

    def __init__(
        self,
        *,
        bundle: Bundle,
        tables: FeatureTables,
        market: Market,
        key: Key,
        policy: PolicyConfig,
        renew_days: int,
    ) -> None:
        assert renew_days >= 1
        bundle.model.value_heads = None  # nobody asks what users are worth
        self._bundle, self._renew_days = bundle, renew_days
        self._log = GrowingLog(tables, market, key)
        # The slates are the market's to draw, one after another; here everything is scored once.
        self._policy = dataclasses.replace(policy, category_penalty=0.0, category_memory_days=0.0)
        self._score_UV = np.full((len(market.users), market.items.num_items + 1), -np.inf, np.float32)
        self._is_scored_U = np.zeros(len(market.users), bool)
        self._renewed_on: int | None = None

    def saw(self, day: Day) -> None:
        """What came of a day, to be called before the next one."""
        self._log.add(day)

    def __call__(self, scene: Scene) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rows of those present and their scores by the market's own items, -inf for what is no candidate."""
        if self._renewed_on is None or scene.day >= self._renewed_on + self._renew_days:
            self._renew(scene.day)
        self._score(scene.user_B[~self._is_scored_U[scene.user_B]])
        starts = range(0, len(scene.user_B), _USERS_PER_BLOCK)
        rows = [np.arange(at, min(at + _USERS_PER_BLOCK, len(scene.user_B))) for at in starts]
        return [(row_B, self._score_UV[scene.user_B[row_B]]) for row_B in rows]

    def _renew(self, day: int) -> None:
        tables, self._item_V, self._row_U = self._log.tables()
        self._recommender = Recommender(
            bundle=self._bundle, tables=tables, at=Split.NOW, top_k=1, policy=self._policy
        )
        self._is_scored_U[:] = False
        self._renewed_on = day

    def _score(self, user_B: np.ndarray) -> None:
        """Who has no event yet gets what is for anyone."""
        anyone = self._recommender.num_users
        row_B = np.where(self._row_U[user_B] < 0, anyone, self._row_U[user_B])
        for place_B, score_BV in self._recommender.scores(row_B):
            ours_BV = np.full((len(place_B), self._score_UV.shape[1]), -np.inf, np.float32)
            ours_BV[:, self._item_V] = score_BV
            ours_BV[:, PAD] = -np.inf
            self._score_UV[user_B[place_B]] = ours_BV
        self._is_scored_U[user_B] = True
