"""A day as it stands before anybody is shown anything: all that a policy and the choice model look at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recsys.simulator.items import Items
from recsys.simulator.state import State
from recsys.simulator.users import Users
from recsys.simulator.world import ChangeSettings, WorldConfig

_YEAR_DAYS = 365
_WEEKEND = (5, 6)  # days of seven


@dataclass(frozen=True)
class Scene:
    """`user_B`: int64, who is present, ascending. Only an oracle looks at more than `day` and `user_B`.

    taste_UT and quality_V (float32) are those of the day; season is what multiplies odds on it.
    """

    day: int
    user_B: np.ndarray
    seed: int
    world: WorldConfig
    users: Users
    items: Items
    state: State
    taste_UT: np.ndarray
    quality_V: np.ndarray
    season: float

    def boredom(self, user_B: np.ndarray) -> np.ndarray:
        """float32 (B, T): what is left of it on this day."""
        away_days_B = self.day - self.state.last_visit_U[user_B]
        left_B = np.power(np.float32(self.world.satisfaction.boredom_decay), away_days_B.astype(np.float32))
        return self.state.boredom_UT[user_B] * left_B[:, None]

    def budget_left(self, user_B: np.ndarray) -> np.ndarray:
        """float64 (B,): money that can be spent in these 30 days yet."""
        return self.users.budget_U[user_B] - self.state.spent_U[user_B]


def scene_of(
    *,
    day: int,
    user_B: np.ndarray,
    seed: int,
    world: WorldConfig,
    users: Users,
    items: Items,
    state: State,
) -> Scene:
    """The scene with everything as the calendar has changed it."""
    change = world.change
    return Scene(
        day=day,
        user_B=user_B,
        seed=seed,
        world=world,
        users=users,
        items=items,
        state=state,
        taste_UT=_drifted(users.taste_UT, users.later_taste_UT, day, change.taste_drift_days),
        quality_V=_drifted(items.quality_V, items.later_quality_V, day, change.quality_drift_days),
        season=season_factor(change, day),
    )


def season_factor(change: ChangeSettings, day: int) -> float:
    """What multiplies the odds to buy and to come back on a day."""
    factor = 1 + change.season_amplitude * math.sin(2 * math.pi * day / _YEAR_DAYS)
    if day % 7 in _WEEKEND:
        factor *= change.weekend_factor
    if 0 <= day - change.shock_first_day < change.shock_days:
        factor *= change.shock_factor
    return factor


def _drifted(old: np.ndarray, new: np.ndarray, day: int, drift_days: int) -> np.ndarray:
    """Between old and new by how much of the drift has passed."""
    if drift_days == 0 or day == 0:
        return old
    share = np.float32(min(day / drift_days, 1.0))
    return (1 - share) * old + share * new
