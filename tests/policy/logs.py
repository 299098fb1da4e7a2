"""Small histories written down by hand, or drawn from a law that is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.data.flat import FlatHistories
from recsys.schema import SECONDS_PER_DAY

TYPES = {"view": 1, "cart": 2, "purchase": 3, "read": 4}
DAY_0 = 19_000  # days since 1970

Event = tuple[int, float, str, int, float]  # user from 1, day (its fraction is the time), type, item, money


def histories(events: Sequence[Event], *, num_users: int) -> FlatHistories:
    """Of events in any order."""
    rows = sorted(events, key=lambda event: event[:2])
    count_U = np.bincount([user for user, *_ in rows], minlength=num_users + 1)[1:]
    return FlatHistories(
        offsets=np.r_[0, np.cumsum(count_U)],
        item_index=np.array([item for *_, item, _ in rows], np.int32),
        event_type=np.array([TYPES[name] for _, _, name, _, _ in rows], np.int32),
        timestamp=np.array([moment(day) for _, day, *_ in rows], np.int64),
        value=np.array([money for *_, money in rows]),
        returned_at=np.zeros(len(rows), np.int64),
        user_key=np.array([f"{user:064x}" for user in range(1, num_users + 1)]),
    )


def moment(day: float) -> int:
    """Timestamp of a day from 0 on."""
    return int((DAY_0 + day) * SECONDS_PER_DAY)


def drawn(
    effect: float, *, num_users: int, seed: int, spread: float = 0.0, num_items: int = 20, days: int = 120
) -> FlatHistories:
    """Users who meet one item an occasion. Items of the upper half are read with probability 0.8, others 0.2.

    The daily odds to come back are those of 0.15, times exp(effect) after a read, times what is the user's
    own: lognormal, with `spread` as its sigma.
    """
    random = np.random.default_rng(seed)
    events: list[Event] = []
    for user in range(1, num_users + 1):
        own = np.exp(spread * random.normal())
        day = int(random.integers(0, 20))
        while day < days:
            item = int(random.integers(1, num_items + 1))
            is_read = random.random() < (0.8 if item > num_items // 2 else 0.2)
            events.append((user, day + 0.5, "read" if is_read else "view", item, 0.0))
            odds = own * 0.15 / 0.85 * (np.exp(effect) if is_read else 1.0)
            day += int(random.geometric(odds / (1 + odds)))
    return histories(events, num_users=num_users)
