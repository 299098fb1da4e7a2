"""Logged histories as occasions: a user's days with an event, what was met on them, who came back how often.

Legend: E events, S occasions (by user, then day), G engagements, F signals, C controls, U users.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recsys.data.flat import FlatHistories
from recsys.schema import PAD, SECONDS_PER_DAY, EventType

CONTROLS = (
    *("days_in_7", "days_in_28", "days_in_84", "engagements_in_28", "money_in_28"),
    *("log_tenure_days", "log_gap_days", "is_first", "calendar", "calendar_squared"),
)
_NEVER_DAYS = 1 << 20  # more than any log has
_PASTS_DAYS = (7, 28, 84)
_PRIOR_DAYS = 5.0  # how many days of all users' money a day count beside a user's own


@dataclass(frozen=True)
class Occasions:
    """user_S: from 0; day_S: days since 1970; days_S: days with an event within the horizon, true where
    watched_S (the horizon ended before the log); control_SC: the state before; occasion_G, item_G, signal_GF:
    of each item met: 1 for each type of event it met with (columns by type, from 1), then log(1 + money).
    """

    user_S: np.ndarray
    day_S: np.ndarray
    days_S: np.ndarray
    watched_S: np.ndarray
    control_SC: np.ndarray
    occasion_G: np.ndarray
    item_G: np.ndarray
    signal_GF: np.ndarray


def occasions_of(
    histories: FlatHistories, *, until: int, horizon_days: int, event_types: Mapping[str, int]
) -> Occasions:
    """All occasions of events up to `until` (Unix seconds).

    A purchase on a later day than its cart is left out: it completes an occasion, and neither is a return nor
    was known on it.
    """
    num_types = max(event_types.values())
    timestamp_E = np.asarray(histories.timestamp)
    at_E = np.flatnonzero((timestamp_E <= until) & ~_completes(histories, event_types))
    offsets = np.asarray(histories.offsets)
    user_E = np.searchsorted(offsets, at_E, "right") - 1
    day_E = timestamp_E[at_E] // SECONDS_PER_DAY
    key_S, occasion_E = np.unique(user_E * _NEVER_DAYS + day_E, return_inverse=True)
    item_E = np.asarray(histories.item_index)[at_E].astype(np.int64)
    met_E = np.flatnonzero(item_E != PAD)  # a search is an event of the day and meets no item
    width = int(item_E.max(initial=0)) + 1
    key_G, engagement_E = np.unique((occasion_E * width + item_E)[met_E], return_inverse=True)
    signal_GF = np.zeros((len(key_G), num_types + 1))
    type_E = np.asarray(histories.event_type)[at_E]
    signal_GF[engagement_E, type_E[met_E] - 1] = 1.0
    money_E = np.asarray(histories.value)[at_E]
    money_E = np.where(np.isfinite(money_E), money_E, 0.0)
    money_G = np.bincount(engagement_E, weights=money_E[met_E], minlength=len(key_G))
    signal_GF[:, num_types] = np.log1p(np.maximum(money_G, 0))
    user_S, day_S = np.divmod(key_S, _NEVER_DAYS)
    last_day = (until + 1) // SECONDS_PER_DAY - 1  # the last one that is whole
    occasion_G = key_G // width
    past = _Past.of(
        key_S=key_S,
        engagements_S=np.bincount(occasion_G, minlength=len(key_S)),
        money_S=np.bincount(occasion_E, weights=money_E, minlength=len(key_S)),
    )
    return Occasions(
        user_S=user_S,
        day_S=day_S,
        days_S=(past.place(user_S, day_S + horizon_days + 1) - np.arange(len(key_S)) - 1).astype(float),
        watched_S=day_S + horizon_days <= last_day,
        control_SC=past.controls(user_S, day_S),
        occasion_G=occasion_G,
        item_G=key_G % width,
        signal_GF=signal_GF,
    )


def controls_at(
    histories: FlatHistories, user_U: np.ndarray, cut: int, *, event_types: Mapping[str, int]
) -> np.ndarray:
    """(U, C): the controls of users (by index, from 1) on an occasion the day after the cut."""
    past = _past_of(histories, until=cut, event_types=event_types)
    return past.controls(user_U - 1, np.full(len(user_U), cut // SECONDS_PER_DAY + 1))


def controls_of(
    histories: FlatHistories, user_R: np.ndarray, timestamp_R: np.ndarray, *, event_types: Mapping[str, int]
) -> np.ndarray:
    """(R, C): the controls of users (by index, from 1) on the days of the timestamps."""
    past = _past_of(histories, until=int(np.max(timestamp_R)), event_types=event_types)
    return past.controls(user_R - 1, timestamp_R // SECONDS_PER_DAY)


def money_and_return(
    histories: FlatHistories,
    user_R: np.ndarray,
    timestamp_R: np.ndarray,
    *,
    horizon_days: int,
    event_types: Mapping[str, int],
) -> np.ndarray:
    """float64 (R,): money of the user (by index, from 1) on the day, and the days with an event within the
    horizon after it at the user's money a day before it, which is drawn to that of all users.
    """
    day_R = timestamp_R // SECONDS_PER_DAY
    until = (int(day_R.max()) + horizon_days + 1) * SECONDS_PER_DAY - 1
    past = _past_of(histories, until=until, event_types=event_types)
    start_R, here_R, after_R, end_R = (
        past.place(user_R - 1, day)
        for day in (np.zeros_like(day_R), day_R, day_R + 1, day_R + horizon_days + 1)
    )
    money_R = past.money_before_S[after_R] - past.money_before_S[here_R]
    a_day = past.money_before_S[-1] / max(len(past.key_S), 1)
    before_R = past.money_before_S[here_R] - past.money_before_S[start_R]
    worth_R = (before_R + _PRIOR_DAYS * a_day) / (here_R - start_R + _PRIOR_DAYS)
    reward_R: np.ndarray = money_R + worth_R * (end_R - after_R)
    return reward_R


def _past_of(histories: FlatHistories, *, until: int, event_types: Mapping[str, int]) -> _Past:
    occasions = occasions_of(histories, until=until, horizon_days=1, event_types=event_types)
    key_S = occasions.user_S * _NEVER_DAYS + occasions.day_S
    num_types = occasions.signal_GF.shape[1] - 1
    money_G = np.expm1(occasions.signal_GF[:, num_types])
    return _Past.of(
        key_S=key_S,
        engagements_S=np.bincount(occasions.occasion_G, minlength=len(key_S)),
        money_S=np.bincount(occasions.occasion_G, weights=money_G, minlength=len(key_S)),
    )


def _completes(histories: FlatHistories, event_types: Mapping[str, int]) -> np.ndarray:
    """bool (E,): purchases of what the same user's event before of that item put into the cart, days ago."""
    cart, purchase = event_types.get(EventType.CART), event_types.get(EventType.PURCHASE)
    type_E = np.asarray(histories.event_type)
    found_E = np.zeros(len(type_E), bool)
    if cart is None or purchase is None or not len(type_E):
        return found_E
    offsets = np.asarray(histories.offsets)
    user_E = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    item_E, timestamp_E = np.asarray(histories.item_index), np.asarray(histories.timestamp)
    order_E = np.lexsort((np.arange(len(type_E)), item_E, user_E))
    now_E, before_E = order_E[1:], order_E[:-1]
    found_E[now_E] = (
        (user_E[now_E] == user_E[before_E])
        & (item_E[now_E] == item_E[before_E])
        & (type_E[now_E] == purchase)
        & (type_E[before_E] == cart)
        & (timestamp_E[now_E] // SECONDS_PER_DAY > timestamp_E[before_E] // SECONDS_PER_DAY)
    )
    return found_E


@dataclass(frozen=True)
class _Past:
    """Occasions by key (user x many + day), ascending, with running totals before each."""

    key_S: np.ndarray
    engagements_before_S: np.ndarray  # (S + 1,)
    money_before_S: np.ndarray

    @classmethod
    def of(cls, *, key_S: np.ndarray, engagements_S: np.ndarray, money_S: np.ndarray) -> _Past:
        return cls(key_S, np.r_[0, np.cumsum(engagements_S)], np.r_[0.0, np.cumsum(np.maximum(money_S, 0))])

    def place(self, user_R: np.ndarray, day_R: np.ndarray) -> np.ndarray:
        """Number of occasions of this and earlier users before the day."""
        return np.searchsorted(self.key_S, user_R * _NEVER_DAYS + day_R)

    def controls(self, user_R: np.ndarray, day_R: np.ndarray) -> np.ndarray:
        """(R, C) on those days, of what was before them."""
        first_R, here_R = self.place(user_R, np.zeros_like(day_R)), self.place(user_R, day_R)
        has_past_R = here_R > first_R
        in_past = [here_R - self.place(user_R, np.maximum(day_R - days, 0)) for days in _PASTS_DAYS]
        since_R = self.place(user_R, np.maximum(day_R - 28, 0))
        day_S = self.key_S % _NEVER_DAYS
        last = len(day_S) - 1
        tenure_R = np.where(has_past_R, day_R - day_S[np.minimum(first_R, last)], 0)
        gap_R = np.where(has_past_R, day_R - day_S[np.maximum(here_R - 1, 0)], 0)
        calendar_R = (day_R - day_S.min(initial=_NEVER_DAYS)) / 365.0
        columns = [
            *(np.log1p(count_R) for count_R in in_past),
            np.log1p(self.engagements_before_S[here_R] - self.engagements_before_S[since_R]),
            np.log1p(self.money_before_S[here_R] - self.money_before_S[since_R]),
            *(np.log1p(tenure_R), np.log1p(gap_R), ~has_past_R, calendar_R, calendar_R**2),
        ]
        return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)
