"""What users do with a slate: look, click, buy, put off. docs/market.md has the equations.

A row's numbers depend on that row alone, so that one user's slate changes nobody else's outcome.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from recsys.schema import PAD
from recsys.simulator.luck import Stream, item_luck, slot_luck
from recsys.simulator.scene import Scene
from recsys.simulator.world import CASCADE


class Appeal(NamedTuple):
    """Of items to users, float32 (B, C): log odds of a click in the first slot, of buying once clicked."""

    click_BC: np.ndarray
    buy_BC: np.ndarray


class Choices(NamedTuple):
    """bool (B, K): what was clicked, bought at once, and put off."""

    clicked_BK: np.ndarray
    bought_BK: np.ndarray
    put_off_BK: np.ndarray


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)); log odds here are far from where exp overflows."""
    return 1 / (1 + np.exp(-x))


def affinity(scene: Scene, user_B: np.ndarray, item_BC: np.ndarray) -> np.ndarray:
    """float32 (B, C): topics x taste, scaled so that an even taste has affinity 1.

    `item_BC` may have one row, which then stands for every user.
    """
    items, num_topics = scene.items, scene.taste_UT.shape[1]
    row_B1, taste = user_B[:, None] * num_topics, scene.taste_UT.ravel()
    main_BC = taste.take(row_B1 + items.topic_V[item_BC])
    second_BC = taste.take(row_B1 + items.second_topic_V[item_BC])
    share_BC = items.main_share_V[item_BC]
    return num_topics * (share_BC * main_BC + (1 - share_BC) * second_BC)


def appeal(scene: Scene, user_B: np.ndarray, item_BC: np.ndarray) -> Appeal:
    """The choice model, with log(1 + affinity) in both odds."""
    choice, items, users = scene.world.choice, scene.items, scene.users
    likes_BC = np.log1p(affinity(scene, user_B, item_BC))
    boredom_BT = scene.boredom(user_B)
    place_BC = np.arange(len(user_B))[:, None] * boredom_BT.shape[1] + items.topic_V[item_BC]
    click_BC = (
        choice.click_bias
        + choice.click_affinity * likes_BC
        + choice.click_bait * items.bait_V[item_BC]
        - choice.click_boredom * boredom_BT.ravel().take(place_BC)
    )
    buy_B1 = (
        choice.buy_bias + math.log(scene.season) + choice.buy_whale * users.log_whale_U[user_B, None]
    ).astype(np.float32)
    buy_BC = (
        buy_B1
        + choice.buy_affinity * likes_BC
        + choice.buy_quality * scene.quality_V[item_BC]
        - users.price_sensitivity_U[user_B, None] * items.log_price_V[item_BC]
    )
    return Appeal(click_BC, buy_BC)


def choose(scene: Scene, item_BK: np.ndarray) -> Choices:
    """What everyone present does with their slate; nobody spends more than the budget has left."""
    choice, num_items = scene.world.choice, scene.items.num_items
    user_BK = np.broadcast_to(scene.user_B[:, None], item_BK.shape)

    def luck(stream: Stream) -> np.ndarray:
        return item_luck(user_BK, item_BK, num_items=num_items, seed=scene.seed, day=scene.day, stream=stream)

    wanted = appeal(scene, scene.user_B, item_BK)
    slope_K = np.float32(choice.slot_slope) * np.arange(item_BK.shape[1], dtype=np.float32)
    tempted_BK = (luck(Stream.CLICK) < sigmoid(wanted.click_BC - slope_K)) & (item_BK != PAD)
    clicked_BK = _cascade(scene, tempted_BK) if choice.attention == CASCADE else tempted_BK
    wants_BK = clicked_BK & (luck(Stream.BUY) < sigmoid(wanted.buy_BC))
    put_off_BK = wants_BK & (luck(Stream.DELAY) < choice.delayed_share)
    price_BK = scene.items.price_V[item_BK]
    bought_BK = in_budget(wants_BK & ~put_off_BK, price_BK, scene.budget_left(scene.user_B))
    return Choices(clicked_BK, bought_BK, put_off_BK)


def in_budget(wants_BK: np.ndarray, price_BK: np.ndarray, left_B: np.ndarray) -> np.ndarray:
    """bool (B, K): what is bought, slot by slot, where what does not fit is passed over."""
    bought_BK, left_B = np.zeros_like(wants_BK), left_B.copy()
    for slot in range(wants_BK.shape[1]):
        bought_BK[:, slot] = wants_BK[:, slot] & (price_BK[:, slot] <= left_B)
        left_B -= np.where(bought_BK[:, slot], price_BK[:, slot], 0)
    return bought_BK


def _cascade(scene: Scene, tempted_BK: np.ndarray) -> np.ndarray:
    """Clicks of those who go from slot to slot and stop by chance, sooner after a click.

    Craswell, Zoeter, Taylor, Ramsey, "An experimental comparison of click position-bias models", 2008.
    """
    choice, num_slots = scene.world.choice, tempted_BK.shape[1]
    luck_BK = slot_luck(scene.user_B, num_slots, seed=scene.seed, day=scene.day, stream=Stream.LOOK)
    clicked_BK, looks_B = np.zeros_like(tempted_BK), np.ones(len(tempted_BK), bool)
    for slot in range(num_slots):
        clicked_BK[:, slot] = looks_B & tempted_BK[:, slot]
        goes_on_B = np.where(clicked_BK[:, slot], choice.go_on_after_click, choice.go_on_after_skip)
        looks_B &= luck_BK[:, slot] < goes_on_B
    return clicked_BK
