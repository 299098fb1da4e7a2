"""Policies that need no model: chance, popularity, and oracles that know the hidden state of everybody.

An oracle scores the items of a shelf (`shelves.py`) for every user and shows the best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recsys.schema import PAD
from recsys.simulator.choice import appeal, sigmoid
from recsys.simulator.dynamics import expected_change
from recsys.simulator.luck import Stream, slot_luck
from recsys.simulator.scene import Scene
from recsys.simulator.shelves import Shelves
from recsys.simulator.world import SatisfactionSettings

_OUT_OF_BUDGET = 0.01  # what cannot be paid now is ranked last, and still in order
_USERS_PER_BLOCK = 1024

Scorer = Callable[[Scene, np.ndarray, np.ndarray], np.ndarray]  # scene, user_B, item_BC -> score_BC


@dataclass(frozen=True)
class Slate:
    """item_BK: int32, 0 in an empty slot; score_BK: float32; propensity_BK: float64."""

    item_BK: np.ndarray
    score_BK: np.ndarray
    propensity_BK: np.ndarray


class Scored(NamedTuple):
    """Candidates of some of those present: rows among them, items (C,), scores (rows, C)."""

    row_B: np.ndarray
    item_C: np.ndarray
    score_BC: np.ndarray


class Random:
    """Every item that is there with the same chance, none twice."""

    def __init__(self, *, slate_size: int) -> None:
        self.slate_size = slate_size

    def __call__(self, scene: Scene) -> Slate:
        born_N = scene.items.born(scene.day)
        num_slots = min(self.slate_size, len(born_N))
        luck_BK = slot_luck(scene.user_B, self.slate_size, seed=scene.seed, day=scene.day, stream=Stream.SHOW)
        place_BK = np.full((len(scene.user_B), self.slate_size), -1)
        for slot in range(num_slots):
            place_B = (luck_BK[:, slot] * (len(born_N) - slot)).astype(np.int64)
            for taken_B in np.sort(place_BK[:, :slot], axis=1).T:  # ascending: step over what is taken
                place_B += place_B >= taken_B
            place_BK[:, slot] = place_B
        item_BK = np.where(place_BK >= 0, born_N[place_BK], PAD).astype(np.int32)
        chance_K = 1 / np.maximum(len(born_N) - np.arange(self.slate_size), 1)
        return _slate(item_BK, np.zeros(item_BK.shape), np.broadcast_to(chance_K, item_BK.shape))


class Popular:
    """What was opened most often so far, the same for everybody."""

    def __init__(self, *, slate_size: int) -> None:
        self.slate_size = slate_size

    def __call__(self, scene: Scene) -> Slate:
        born_N = scene.items.born(scene.day)
        opened_N = scene.state.num_opened_V[born_N]
        best_K = np.argsort(-opened_N, kind="stable")[: self.slate_size]
        item_K, opened_K = np.zeros(self.slate_size, np.int32), np.zeros(self.slate_size)
        item_K[: len(best_K)], opened_K[: len(best_K)] = born_N[best_K], opened_N[best_K]
        shape = (len(scene.user_B), self.slate_size)
        return _slate(np.broadcast_to(item_K, shape), np.broadcast_to(opened_K, shape), np.ones(shape))


class Ranked:
    """The best of its shelf for every user by a scorer."""

    def __init__(self, scorer: Scorer, *, slate_size: int, shelf_size: int) -> None:
        self.scorer, self.slate_size = scorer, slate_size
        self._shelves = Shelves(scorer, shelf_size=shelf_size)

    def __call__(self, scene: Scene) -> Slate:
        item_BK = np.zeros((len(scene.user_B), self.slate_size), np.int32)
        score_BK = np.zeros(item_BK.shape, np.float32)
        for row_B, item_C, score_BC in self.scored(scene):
            size = min(self.slate_size, len(item_C))
            best_BK = np.argpartition(-score_BC, size - 1, axis=1)[:, :size]
            order_BK = np.argsort(-np.take_along_axis(score_BC, best_BK, 1), axis=1, kind="stable")
            best_BK = np.take_along_axis(best_BK, order_BK, 1)
            item_BK[row_B, :size] = item_C[best_BK]
            score_BK[row_B, :size] = np.take_along_axis(score_BC, best_BK, 1)
        return _slate(item_BK, score_BK, np.ones(item_BK.shape))

    def scored(self, scene: Scene) -> Iterator[Scored]:
        """Everyone present once, a block of users of one shelf at a time."""
        segment_B = self._shelves.segment_of(scene)[scene.user_B]
        for segment, item_C in enumerate(self._shelves.items_of(scene)):
            (row_B,) = np.nonzero(segment_B == segment)
            for start in range(0, len(row_B), _USERS_PER_BLOCK):
                rows_B = row_B[start : start + _USERS_PER_BLOCK]
                score_BC = self.scorer(scene, scene.user_B[rows_B], item_C[None, :])
                yield Scored(rows_B, item_C, score_BC)


def expected_clicks(scene: Scene, user_B: np.ndarray, item_BC: np.ndarray) -> np.ndarray:
    """float32 (B, C): probability of a click."""
    return sigmoid(appeal(scene, user_B, item_BC).click_BC)


def expected_revenue(scene: Scene, user_B: np.ndarray, item_BC: np.ndarray) -> np.ndarray:
    """float32 (B, C): money that a slot brings on average, at once or put off."""
    wanted = appeal(scene, user_B, item_BC)
    return _revenue(scene, user_B, item_BC, wanted.click_BC, wanted.buy_BC)


class ValueAware:
    """Revenue + weight x worth x expected change of satisfaction, boredom aside: one step, not the optimum.

    Worth is the median price times what the user's purse does to the odds to buy. `effects` is what the
    policy takes the effects on satisfaction to be: the world's own for an oracle.
    """

    def __init__(self, *, weight: float, effects: SatisfactionSettings) -> None:
        self.weight, self.effects = weight, effects

    def __call__(self, scene: Scene, user_B: np.ndarray, item_BC: np.ndarray) -> np.ndarray:
        wanted = appeal(scene, user_B, item_BC)
        revenue_BC = _revenue(scene, user_B, item_BC, wanted.click_BC, wanted.buy_BC)
        change_BC = expected_change(scene, user_B, item_BC, wanted, self.effects)
        worth_B = scene.world.items.price_median * np.exp(
            scene.world.choice.buy_whale * scene.users.log_whale_U[user_B]
        )
        return revenue_BC + self.weight * worth_B[:, None] * change_BC


def _revenue(
    scene: Scene, user_B: np.ndarray, item_BC: np.ndarray, click_BC: np.ndarray, buy_BC: np.ndarray
) -> np.ndarray:
    price_BC = scene.items.price_V[item_BC].astype(np.float32)
    fits_BC = price_BC <= scene.budget_left(user_B)[:, None]
    paid_BC = np.where(fits_BC, price_BC, np.float32(_OUT_OF_BUDGET) * price_BC)
    return sigmoid(click_BC) * sigmoid(buy_BC) * paid_BC


def _slate(item_BK: np.ndarray, score_BK: np.ndarray, propensity_BK: np.ndarray) -> Slate:
    """Empty slots have neither score nor propensity."""
    full_BK = item_BK != PAD
    return Slate(
        item_BK=item_BK,
        score_BK=np.where(full_BK, score_BK, np.nan).astype(np.float32),
        propensity_BK=np.where(full_BK, propensity_BK, np.nan),
    )
