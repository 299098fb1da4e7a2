"""Common random numbers: every draw belongs to a user and a day (and an item), whatever the policy does."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from recsys.draws import draw


class Stream(IntEnum):
    """What a draw is for; the numbers are part of every result."""

    CLICK = 1
    BUY = 2
    DELAY = 3
    DELAY_DAYS = 4
    LOOK = 5
    GAP = 6
    LEAVE = 7
    SEARCH = 8
    SEARCH_TOPIC = 9
    SEARCH_ITEM = 10
    SHOW = 11
    CLOCK = 12
    DWELL = 13


def user_luck(user_B: np.ndarray, *, seed: int, day: int, stream: Stream) -> np.ndarray:
    """float64 (B,) in [0, 1)."""
    return draw(user_B, seed=seed, epoch=day, stream=int(stream))


def slot_luck(user_B: np.ndarray, num_slots: int, *, seed: int, day: int, stream: Stream) -> np.ndarray:
    """float64 (B, K) in [0, 1), one of each user's slots."""
    return draw(user_B[:, None] * num_slots + np.arange(num_slots), seed=seed, epoch=day, stream=int(stream))


def item_luck(
    user_BK: np.ndarray, item_BK: np.ndarray, *, num_items: int, seed: int, day: int, stream: Stream
) -> np.ndarray:
    """float64 (B, K) in [0, 1): the luck of an item with a user on a day, in whichever slot it stands."""
    return draw(user_BK * (num_items + 1) + item_BK, seed=seed, epoch=day, stream=int(stream))
