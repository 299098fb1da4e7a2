"""Candidates of oracles: the best items of every topic for each kind of user, renewed each week.

A shelf depends on the calendar alone, never on what users did, so that a policy stays a function of the user.
Where every item fits on it, a shelf is the whole catalogue.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from recsys.simulator.scene import Scene, scene_of
from recsys.simulator.state import first_state
from recsys.simulator.users import Users

RENEWED_DAYS = 7
_TYPICAL_TASTE = 0.4  # for their topic, of the user whose eyes a shelf is filled with
_SENSITIVITY_KINDS, _WHALE_KINDS = 4, 2


class Shelves:
    """`shelf_size`: items per topic."""

    def __init__(
        self, scorer: Callable[[Scene, np.ndarray, np.ndarray], np.ndarray], *, shelf_size: int
    ) -> None:
        self._scorer, self._shelf_size = scorer, shelf_size
        self._users: Users | None = None
        self._segment_U = np.zeros(0, np.int64)
        self._renewed_on = -1
        self._item_SC: list[np.ndarray] = []

    def segment_of(self, scene: Scene) -> np.ndarray:
        """int (U,): the kind of every user, by price sensitivity and purse."""
        if self._users is not scene.users:
            self._users, self._renewed_on = scene.users, -1
            kind_U = _quantile(scene.users.price_sensitivity_U, _SENSITIVITY_KINDS) * _WHALE_KINDS
            kind_U = kind_U + _quantile(scene.users.log_whale_U, _WHALE_KINDS)
            self._segment_U = np.unique(kind_U, return_inverse=True)[1]
        return self._segment_U

    def items_of(self, scene: Scene) -> list[np.ndarray]:
        """The shelf of every kind on this day: ascending item indices."""
        segment_U = self.segment_of(scene)
        renewed_on = scene.day - scene.day % RENEWED_DAYS
        if self._renewed_on != renewed_on:
            self._renewed_on = renewed_on
            untouched = _untouched(scene, renewed_on)
            self._item_SC = [
                self._fill(untouched, np.flatnonzero(segment_U == segment))
                for segment in range(segment_U.max() + 1)
            ]
        return self._item_SC

    def _fill(self, scene: Scene, user_N: np.ndarray) -> np.ndarray:
        born_V = scene.items.born(scene.day)
        num_topics = scene.taste_UT.shape[1]
        if len(born_V) <= num_topics * self._shelf_size:
            return born_V
        eyes_T = user_N[np.abs(scene.users.taste_UT[user_N] - _TYPICAL_TASTE).argmin(axis=0)]
        topic_V = scene.items.topic_V[born_V]
        score_V = self._scorer(scene, eyes_T[topic_V], born_V[:, None])[:, 0]
        order_V = np.lexsort((-score_V, topic_V))
        first_T = np.searchsorted(topic_V[order_V], np.arange(num_topics))
        place_V = np.arange(len(order_V)) - first_T[topic_V[order_V]]
        return np.sort(born_V[order_V[place_V < self._shelf_size]])


def _untouched(scene: Scene, day: int) -> Scene:
    """The market on a day as if nobody had been shown anything."""
    state = first_state(scene.users, num_topics=scene.taste_UT.shape[1], num_items=scene.items.num_items)
    rest = {name: getattr(scene, name) for name in ("user_B", "seed", "world", "users", "items")}
    return dataclasses.replace(scene_of(day=day, state=state, **rest), season=1.0)


def _quantile(values_U: np.ndarray, num_kinds: int) -> np.ndarray:
    """int (U,): the value's share of equal shares, by rank."""
    rank_U = np.argsort(np.argsort(values_U, kind="stable"), kind="stable")
    return rank_U * num_kinds // len(values_U)
