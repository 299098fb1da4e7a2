"""A day as event rows: what a platform's raw log would hold, in plain columns.

Legend: R rows.
"""

from __future__ import annotations

import numpy as np

from recsys.schema import PAD, SECONDS_PER_DAY, EventType
from recsys.simulator.choice import affinity
from recsys.simulator.items import Items
from recsys.simulator.luck import Stream, item_luck, user_luck
from recsys.simulator.market import Day
from recsys.simulator.scene import Scene
from recsys.simulator.users import CHANNELS, Users

FIRST_DAY = 1_704_067_200  # day 0 is 2024-01-01, UTC
_VISITS_BEGIN_S, _VISITS_END_S = 8 * 3600, 22 * 3600  # late purchases come before, a second apart
_LOOK_S = 60  # between slots; what a click leads to follows within it
_COHORT_DAYS = 30

EventRows = dict[str, np.ndarray]  # user_R, item_R, kind_R, timestamp_R, value_R, dwell_s_R, row_R


def slate_timestamp(day: int) -> int:
    """When the slates of a day are made: before anything else happens on it."""
    return FIRST_DAY + day * SECONDS_PER_DAY


def event_rows(day: Day) -> EventRows:
    """Rows by kind: user_R (from 0), item_R, kind_R (event type), timestamp_R (Unix seconds), value_R (money,
    nan for none), dwell_s_R (seconds of a view, nan for none), row_R (row of the slate it followed, else -1).
    """
    scene, item_BK, done = day.scene, day.shown.item_BK, day.done
    luck_B = user_luck(scene.user_B, seed=scene.seed, day=scene.day, stream=Stream.CLOCK)
    waits_B = (luck_B * (_VISITS_END_S - _VISITS_BEGIN_S)).astype(np.int64)
    begins_B = slate_timestamp(scene.day) + _VISITS_BEGIN_S + waits_B
    seen_BK = begins_B[:, None] + _LOOK_S * (1 + np.arange(item_BK.shape[1]))
    parts = [
        _slot_rows(day, done.clicked_BK, EventType.VIEW, seen_BK, dwell_s_BK=_dwell_s(scene, item_BK)),
        _slot_rows(day, done.put_off_BK, EventType.CART, seen_BK + _LOOK_S // 3),
        _slot_rows(day, done.bought_BK, EventType.PURCHASE, seen_BK + _LOOK_S // 2, value_BK=day.spend_BK),
        _search_rows(day, begins_B),
        _late_rows(day),
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def user_columns(users: Users) -> dict[str, list[str]]:
    """user_id, cohort (days of arrival) and channel of every user."""
    cohort_U = (users.arrival_U // _COHORT_DAYS).tolist()
    return {
        "user_id": user_ids(np.arange(len(users))),
        "cohort": [
            f"days {cohort * _COHORT_DAYS} to {(cohort + 1) * _COHORT_DAYS - 1}" for cohort in cohort_U
        ],
        "channel": [CHANNELS[channel] for channel in users.channel_U.tolist()],
    }


def item_columns(items: Items) -> dict[str, list[str] | np.ndarray]:
    """item_id, category, text and price of every item, as the platform knows them."""
    index_V = np.arange(1, items.num_items + 1)
    topics = [(int(items.topic_V[i]), int(items.second_topic_V[i])) for i in index_V]
    return {
        "item_id": item_ids(index_V),
        "category": [f"topic {main}" for main, _ in topics],
        "text": [f"topic{main} topic{second}" for main, second in topics],
        "price": items.price_V[index_V],
    }


def user_ids(user_R: np.ndarray) -> list[str]:
    """The platform's own id of each user."""
    return [f"u{user}" for user in user_R.tolist()]


def item_ids(item_R: np.ndarray) -> list[str]:
    """The platform's own id of each item."""
    return [f"i{item}" for item in item_R.tolist()]


def _rows(
    kind: str,
    user_R: np.ndarray,
    item_R: np.ndarray,
    timestamp_R: np.ndarray,
    *,
    value_R: np.ndarray | None = None,
    dwell_s_R: np.ndarray | None = None,
    row_R: np.ndarray | None = None,
) -> EventRows:
    size = len(user_R)
    return {
        "user_R": user_R.astype(np.int64),
        "item_R": item_R.astype(np.int64),
        "kind_R": np.full(size, kind, dtype="<U8"),
        "timestamp_R": timestamp_R.astype(np.int64),
        "value_R": np.full(size, np.nan) if value_R is None else value_R,
        "dwell_s_R": np.full(size, np.nan) if dwell_s_R is None else dwell_s_R,
        "row_R": np.full(size, -1) if row_R is None else row_R,
    }


def _slot_rows(
    day: Day,
    happened_BK: np.ndarray,
    kind: str,
    timestamp_BK: np.ndarray,
    *,
    value_BK: np.ndarray | None = None,
    dwell_s_BK: np.ndarray | None = None,
) -> EventRows:
    row_R, _ = np.nonzero(happened_BK)
    return _rows(
        kind,
        day.scene.user_B[row_R],
        day.shown.item_BK[happened_BK],
        timestamp_BK[happened_BK],
        value_R=None if value_BK is None else value_BK[happened_BK],
        dwell_s_R=None if dwell_s_BK is None else dwell_s_BK[happened_BK],
        row_R=row_R,
    )


def _search_rows(day: Day, begins_B: np.ndarray) -> EventRows:
    searched_B = day.found_B != PAD
    return _rows(
        EventType.SEARCH, day.scene.user_B[searched_B], day.found_B[searched_B], begins_B[searched_B]
    )


def _late_rows(day: Day) -> EventRows:
    """Purchases that had been put off: from the day's first seconds on, one a second for each user."""
    user_R, item_R = day.late_user_R, day.late_item_R
    first_R = np.searchsorted(user_R, user_R)
    return _rows(
        EventType.PURCHASE,
        user_R,
        item_R,
        slate_timestamp(day.scene.day) + 1 + np.arange(len(user_R)) - first_R,
        value_R=day.scene.items.price_V[item_R],
    )


def _dwell_s(scene: Scene, item_BK: np.ndarray) -> np.ndarray:
    """float64 (B, K), seconds of a view: longer where an item is liked and good, short where it baited."""
    user_BK = np.broadcast_to(scene.user_B[:, None], item_BK.shape)
    luck_BK = item_luck(
        user_BK,
        item_BK,
        num_items=scene.items.num_items,
        seed=scene.seed,
        day=scene.day,
        stream=Stream.DWELL,
    )
    likes_BK = np.log1p(affinity(scene, scene.user_B, item_BK))
    good_BK = scene.quality_V[item_BK] - scene.items.bait_V[item_BK]
    seconds_BK = 20 * np.exp(0.3 * likes_BK + 0.5 * good_BK) * -np.log1p(-luck_BK)
    return np.round(1 + seconds_BK, 1)
