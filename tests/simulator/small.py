"""A scene small enough for a pocket calculator: every user alike, two topics, three items."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys.simulator.items import NEVER, Items
from recsys.simulator.scene import Scene, scene_of
from recsys.simulator.state import State, first_state
from recsys.simulator.users import Users
from tests.simulator.worlds import load_world

LOG_WHALE = 0.5


def small_users(num_users: int) -> Users:
    def all_(value: float) -> np.ndarray:
        return np.full(num_users, value, np.float32)

    taste_UT = np.tile(np.array([0.75, 0.25], np.float32), (num_users, 1))
    return Users(
        taste_UT=taste_UT,
        later_taste_UT=taste_UT[:, ::-1].copy(),
        price_sensitivity_U=all_(1.5),
        log_whale_U=all_(LOG_WHALE),
        response_U=all_(2.0),
        hazard_U=all_(1.0),
        budget_U=np.full(num_users, 100.0),
        arrival_U=np.zeros(num_users, np.int32),
        channel_U=np.zeros(num_users, np.int8),
    )


def small_items() -> Items:
    """Item 1: good, baits, costs 20; item 2: bad, honest, costs 10; item 3: even, a cent."""
    return Items(
        topic_V=np.array([0, 0, 1, 1], np.int32),
        second_topic_V=np.array([1, 1, 0, 0], np.int32),
        main_share_V=np.array([1, 0.8, 0.6, 1], np.float32),
        quality_V=np.array([0, 2, -1, 0], np.float32),
        later_quality_V=np.array([0, -2, 1, 0], np.float32),
        bait_V=np.array([0, 1, -1, 0], np.float32),
        price_V=np.array([0, 20, 10, 0.01]),
        log_price_V=np.array([0, 0.2, 0, -7], np.float32),
        birth_V=np.array([NEVER, 0, 0, 0], np.int32),
    )


def small_scene(*, num_users: int = 1, day: int = 4, **groups: dict[str, Any]) -> Scene:
    """The default world but for what is named; nobody is bored, satisfied or has spent anything."""
    users, items = small_users(num_users), small_items()
    calm = {"season_amplitude": 0.0, "weekend_factor": 1.0}
    state: State = first_state(users, num_topics=2, num_items=3)
    return scene_of(
        day=day,
        user_B=np.arange(num_users),
        seed=1,
        world=load_world(**({"change": calm} | groups)),
        users=users,
        items=items,
        state=state,
    )
