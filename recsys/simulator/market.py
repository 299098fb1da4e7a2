"""The market, a day at a time: late purchases, who is present, their slates, what they do and leave."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from recsys.schema import PAD, InputError
from recsys.settings import check_range
from recsys.simulator.choice import Choices, choose, in_budget
from recsys.simulator.dynamics import after_late_purchases, leave_behind
from recsys.simulator.items import draw_items
from recsys.simulator.luck import Stream, item_luck
from recsys.simulator.scene import Scene, scene_of
from recsys.simulator.search import search
from recsys.simulator.state import State, first_state, load_state
from recsys.simulator.users import draw_users
from recsys.simulator.world import WorldConfig

BUDGET_DAYS = 30


class Shown(Protocol):
    """Slates of those present: item_BK integers, 0 in an empty slot; propensity_BK and score_BK as floats."""

    @property
    def item_BK(self) -> np.ndarray: ...
    @property
    def score_BK(self) -> np.ndarray: ...
    @property
    def propensity_BK(self) -> np.ndarray: ...


Policy = Callable[[Scene], Shown]


@dataclass(frozen=True)
class Day:
    """What happened: slates and choices of those present and what they found by search (int64, 0: no search);
    purchases that had been put off (rows R).
    """

    scene: Scene
    shown: Shown
    done: Choices
    found_B: np.ndarray
    late_user_R: np.ndarray
    late_item_R: np.ndarray

    @property
    def spend_BK(self) -> np.ndarray:
        """float64, money of the purchases made at once."""
        return np.where(self.done.bought_BK, self.scene.items.price_V[self.shown.item_BK], 0.0)


class Market:
    """`state_file`: go on from there; the world, sizes and seed must be those it was saved with.

    Two markets of the same world, sizes and seed hold the same users and items and the same luck.
    """

    def __init__(
        self,
        *,
        world: WorldConfig,
        num_users: int,
        num_items: int,
        seed: int,
        state_file: Path | None = None,
    ) -> None:
        check_range("users", num_users, least=1)
        check_range("items", num_items, least=1)
        check_range("seed", seed, least=0, most=2**32 - 1)
        num_topics = world.items.num_topics
        self.world, self.seed = world, seed
        self.users = draw_users(world.users, num_users=num_users, num_topics=num_topics, seed=seed)
        self.items = draw_items(world.items, num_items=num_items, seed=seed)
        self.identity = json.dumps([dataclasses.asdict(world), num_users, num_items, seed])
        self.state: State = (
            load_state(state_file, identity=self.identity)
            if state_file is not None
            else first_state(self.users, num_topics=num_topics, num_items=num_items)
        )

    def save(self, path: Path) -> None:
        """The state, for a market that goes on from it."""
        self.state.save(path, identity=self.identity)

    def day(self, policy: Policy) -> Day:
        """One day; `policy` is asked once, for slates of everyone in `scene.user_B` in that order.

        Raises InputError where a slate cannot be shown.
        """
        state = self.state
        if state.day % BUDGET_DAYS == 0:
            state.spent_U[:] = 0
        scene = self._scene(np.flatnonzero(state.next_visit_U == state.day))
        late_user_R, late_item_R = self._late_purchases(scene)
        shown = policy(scene)
        self._check(scene, shown.item_BK)
        done = choose(scene, shown.item_BK)
        self._account(scene.user_B[:, None], shown.item_BK, done.bought_BK)
        found_B = search(scene)
        for opened in (shown.item_BK[done.clicked_BK], found_B[found_B != PAD]):
            state.num_opened_V += np.bincount(opened, minlength=len(state.num_opened_V))
        leave_behind(scene, shown.item_BK, done)
        self._put_off(scene, shown.item_BK, done.put_off_BK)
        state.day += 1
        return Day(scene, shown, done, found_B, late_user_R, late_item_R)

    def _scene(self, user_B: np.ndarray) -> Scene:
        return scene_of(
            day=self.state.day,
            user_B=user_B,
            seed=self.seed,
            world=self.world,
            users=self.users,
            items=self.items,
            state=self.state,
        )

    def _account(self, user_BK: np.ndarray, item_BK: np.ndarray, bought_BK: np.ndarray) -> None:
        item_R = item_BK[bought_BK]
        user_R = np.broadcast_to(user_BK, item_BK.shape)[bought_BK]
        np.add.at(self.state.spent_U, user_R, self.items.price_V[item_R])

    def _late_purchases(self, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
        """Those due today, of users who are still there, as far as budgets go; (user_R, item_R)."""
        state = self.state
        due_P = state.put_off_until_P == state.day
        user_R, item_R = state.put_off_user_P[due_P], state.put_off_item_P[due_P]
        for name in ("put_off_user_P", "put_off_item_P", "put_off_until_P"):
            setattr(state, name, getattr(state, name)[~due_P])
        stays_R = state.churned_at_U[user_R] > state.day
        order_R = np.lexsort((item_R[stays_R], user_R[stays_R]))
        user_R, item_R = user_R[stays_R][order_R], item_R[stays_R][order_R]
        owner_W, first_W, count_W = np.unique(user_R, return_index=True, return_counts=True)
        item_WN = np.full((len(owner_W), count_W.max(initial=0)), PAD, item_R.dtype)
        row_R = np.repeat(np.arange(len(owner_W)), count_W)
        item_WN[row_R, np.arange(len(user_R)) - first_W[row_R]] = item_R
        bought_WN = in_budget(item_WN != PAD, self.items.price_V[item_WN], scene.budget_left(owner_W))
        self._account(owner_W[:, None], item_WN, bought_WN)
        row_R, _ = np.nonzero(bought_WN)
        after_late_purchases(scene, owner_W[row_R], item_WN[bought_WN])
        return owner_W[row_R], item_WN[bought_WN]

    def _put_off(self, scene: Scene, item_BK: np.ndarray, put_off_BK: np.ndarray) -> None:
        """Days to wait are geometric, from 1. Who leaves before does not buy."""
        row_R, _ = np.nonzero(put_off_BK)
        user_R, item_R = scene.user_B[row_R], item_BK[put_off_BK]
        luck_R = item_luck(
            user_R,
            item_R,
            num_items=self.items.num_items,
            seed=self.seed,
            day=scene.day,
            stream=Stream.DELAY_DAYS,
        )
        chance = 1 / self.world.choice.delay_days_mean
        wait_R = 1 + np.floor(np.log1p(-luck_R) / np.log1p(-chance)) if chance < 1 else np.ones(len(luck_R))
        state = self.state
        state.put_off_user_P = np.r_[state.put_off_user_P, user_R]
        state.put_off_item_P = np.r_[state.put_off_item_P, item_R.astype(np.int32)]
        state.put_off_until_P = np.r_[state.put_off_until_P, (scene.day + wait_R).astype(np.int32)]

    def _check(self, scene: Scene, item_BK: np.ndarray) -> None:
        """Of the right users, items that exist and are born, none twice."""
        if item_BK.ndim != 2 or len(item_BK) != len(scene.user_B):
            raise InputError(
                f"{len(item_BK)} slates were given for {len(scene.user_B)} users; give one for each, in order"
            )
        if item_BK.size == 0:
            return
        if item_BK.min() < PAD or item_BK.max() > self.items.num_items:
            raise InputError(
                f"a slate holds an item outside 1 to {self.items.num_items}; show known items only"
            )
        birth_BK = self.items.birth_V[item_BK]
        too_early_BK = (birth_BK > scene.day) & (item_BK != PAD)
        if too_early_BK.any():
            raise InputError(
                f"item {item_BK[too_early_BK][0]} was shown on day {scene.day}, before it is there; show "
                "items that are born"
            )
        sorted_BK = np.sort(item_BK, axis=1)
        if ((sorted_BK[:, 1:] == sorted_BK[:, :-1]) & (sorted_BK[:, 1:] != PAD)).any():
            raise InputError("a slate holds the same item twice; fill slots with items or leave them empty")


def is_alive(state: State, *, at_day_U: np.ndarray) -> np.ndarray:
    """bool (U,): not gone for good on that day of each user."""
    return state.churned_at_U > at_day_U
