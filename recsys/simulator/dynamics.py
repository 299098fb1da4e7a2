"""What a visit leaves behind: satisfaction, boredom, the day of the next visit, or nobody to come."""

from __future__ import annotations

import math

import numpy as np

from recsys.schema import PAD
from recsys.simulator.choice import Appeal, Choices, sigmoid
from recsys.simulator.items import NEVER
from recsys.simulator.luck import Stream, user_luck
from recsys.simulator.scene import Scene
from recsys.simulator.world import SatisfactionSettings

LARGEST_SATISFACTION = 4.0
_LARGEST_HAZARD = 0.5
_LONGEST_GAP_DAYS = 10_000


def expected_change(
    scene: Scene, user_B: np.ndarray, item_BC: np.ndarray, wanted: Appeal, effects: SatisfactionSettings
) -> np.ndarray:
    """float32 (B, C): what an item in the first slot does to satisfaction on average, boredom aside."""
    click_BC = sigmoid(wanted.click_BC)
    quality_BC = scene.quality_V[item_BC]
    per_click_BC = effects.from_clicks * (quality_BC - scene.items.bait_V[item_BC])
    per_click_BC = per_click_BC + effects.from_purchases * quality_BC * sigmoid(wanted.buy_BC)
    return scene.users.response_U[user_B, None] * click_BC * per_click_BC


def leave_behind(scene: Scene, item_BK: np.ndarray, done: Choices) -> None:
    """Update the state of everyone present."""
    shown_BT, bored_B = _boredom(scene, item_BK)
    state, user_B = scene.state, scene.user_B
    state.satisfaction_U[user_B] = _satisfaction(scene, item_BK, done, bored_B)
    state.boredom_UT[user_B] = shown_BT
    state.last_visit_U[user_B] = scene.day
    _set_next_visit(scene)


def after_late_purchases(scene: Scene, user_R: np.ndarray, item_R: np.ndarray) -> None:
    """Satisfaction from purchases that were put off (rows of a user may be many) and are made now."""
    if len(user_R) == 0:
        return
    effect = scene.world.satisfaction.from_purchases
    gained_R = effect * scene.users.response_U[user_R] * scene.quality_V[item_R]
    np.add.at(scene.state.satisfaction_U, user_R, gained_R)
    scene.state.satisfaction_U[user_R] = _bounded(scene.state.satisfaction_U[user_R])


def _bounded(satisfaction: np.ndarray) -> np.ndarray:
    return np.clip(satisfaction, -LARGEST_SATISFACTION, LARGEST_SATISFACTION)


def _boredom(scene: Scene, item_BK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boredom per topic after the visit (B, T), and mean boredom with what was shown before it (B,)."""
    before_BT = scene.boredom(scene.user_B)
    num_users, num_topics = before_BT.shape
    shown_BK = item_BK != PAD
    place_BK = np.arange(num_users)[:, None] * num_topics + scene.items.topic_V[item_BK]
    count_BT = np.bincount(place_BK[shown_BK], minlength=num_users * num_topics).reshape(before_BT.shape)
    share_BT = (count_BT / item_BK.shape[1]).astype(np.float32)
    after_BT = before_BT + np.float32(scene.world.satisfaction.boredom_gain) * share_BT
    return after_BT, (before_BT * share_BT).sum(axis=1)


def _satisfaction(scene: Scene, item_BK: np.ndarray, done: Choices, bored_B: np.ndarray) -> np.ndarray:
    effects, users, user_B = scene.world.satisfaction, scene.users, scene.user_B
    quality_BK = scene.quality_V[item_BK]
    gain_BK = effects.from_clicks * np.where(done.clicked_BK, quality_BK - scene.items.bait_V[item_BK], 0)
    gain_BK = gain_BK + effects.from_purchases * np.where(done.bought_BK, quality_BK, 0)
    change_B = users.response_U[user_B] * gain_BK.sum(axis=1) - effects.from_boredom * bored_B
    if effects.saturation > 0:
        change_B = effects.saturation * np.tanh(change_B / effects.saturation)
    return _bounded(effects.memory * scene.state.satisfaction_U[user_B] + change_B)


def _set_next_visit(scene: Scene) -> None:
    """Gaps are geometric in days, the time to leave for good exponential; what comes first happens."""
    returns, state, user_B = scene.world.returns, scene.state, scene.user_B
    satisfaction_B = state.satisfaction_U[user_B].astype(np.float64)
    odds = returns.daily_return / (1 - returns.daily_return) * scene.season
    daily_return_B = sigmoid(math.log(odds) + returns.return_effect * satisfaction_B)
    luck_B = user_luck(user_B, seed=scene.seed, day=scene.day, stream=Stream.GAP)
    gap_B = 1 + np.floor(np.log1p(-luck_B) / np.log1p(-daily_return_B))
    gap_B = np.minimum(gap_B, _LONGEST_GAP_DAYS)
    hazard_B = np.minimum(
        returns.daily_hazard * scene.users.hazard_U[user_B] * np.exp(-returns.hazard_effect * satisfaction_B),
        _LARGEST_HAZARD,
    )
    luck_B = user_luck(user_B, seed=scene.seed, day=scene.day, stream=Stream.LEAVE)
    with np.errstate(divide="ignore", invalid="ignore"):  # hazard 0: nobody leaves
        stays_days_B = np.where(hazard_B > 0, np.floor(-np.log1p(-luck_B) / hazard_B), np.inf)
    leaves_B = stays_days_B < gap_B
    state.next_visit_U[user_B] = np.where(leaves_B, NEVER, scene.day + gap_B).astype(np.int32)
    churned_at_B = scene.day + 1 + np.minimum(stays_days_B, _LONGEST_GAP_DAYS)
    state.churned_at_U[user_B] = np.where(leaves_B, churned_at_B, NEVER).astype(np.int32)
