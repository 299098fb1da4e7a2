"""Occasions of a few events, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.policy.occasions import (
    CONTROLS,
    Occasions,
    controls_at,
    controls_of,
    money_and_return,
    occasions_of,
)
from tests.policy.logs import DAY_0, TYPES, histories, moment

# user 1: days 0 (items 1 and 2), 3 (item 1), 9 (pays what went into the cart on day 3, and sees item 2);
# user 2: day 5
EVENTS = [
    (1, 0.1, "view", 1, 0.0),
    (1, 0.2, "read", 1, 0.0),
    (1, 0.3, "purchase", 2, 9.0),
    (1, 3.1, "cart", 1, 0.0),
    (1, 9.1, "purchase", 1, 5.0),
    (1, 9.2, "view", 2, 0.0),
    (2, 5.0, "view", 2, 0.0),
]


def found(until_day: float, horizon_days: int = 4) -> Occasions:
    return occasions_of(
        histories(EVENTS, num_users=2),
        until=moment(until_day) - 1,
        horizon_days=horizon_days,
        event_types=TYPES,
    )


def test_an_occasion_is_a_day_of_a_user_and_knows_who_came_back() -> None:
    occasions = found(10)
    assert occasions.user_S.tolist() == [0, 0, 0, 1]
    assert (occasions.day_S - DAY_0).tolist() == [0, 3, 9, 5]
    assert occasions.days_S.tolist() == [1, 0, 0, 0], "day 9 lies beyond the 4 days after day 3"
    assert found(10, horizon_days=6).days_S.tolist() == [1, 1, 0, 0]
    assert occasions.watched_S.tolist() == [True, True, False, True], "days 10 to 13 are not in yet"


def test_an_engagement_tells_all_types_and_the_money_of_an_item() -> None:
    occasions = found(10)
    signals = {
        (int(s), int(i)): row.tolist()
        for s, i, row in zip(occasions.occasion_G, occasions.item_G, occasions.signal_GF, strict=True)
    }
    assert signals[0, 1] == [1, 0, 0, 1, 0]
    assert signals[0, 2] == [0, 0, 1, 0, pytest.approx(np.log(10))]
    assert signals[1, 1] == [0, 1, 0, 0, 0]


def test_a_purchase_that_completes_an_earlier_cart_is_neither_return_nor_signal() -> None:
    occasions = found(10)
    assert [i for s, i in zip(occasions.occasion_G, occasions.item_G, strict=True) if s == 2] == [2]
    events = [event for event in EVENTS if event != (1, 9.2, "view", 2, 0.0)]
    alone = occasions_of(histories(events, num_users=2), until=moment(10), horizon_days=6, event_types=TYPES)
    assert (alone.day_S - DAY_0).tolist() == [0, 3, 5]


def test_controls_say_what_was_before() -> None:
    named = dict(zip(CONTROLS, found(10).control_SC.T, strict=True))
    assert named["days_in_7"] == pytest.approx(np.log1p([0, 1, 1, 0]))
    assert named["days_in_28"] == pytest.approx(np.log1p([0, 1, 2, 0]))
    assert named["money_in_28"] == pytest.approx(np.log1p([0, 9, 9, 0]))
    assert named["log_tenure_days"] == pytest.approx(np.log1p([0, 3, 9, 0]))
    assert named["log_gap_days"] == pytest.approx(np.log1p([0, 3, 6, 0]))
    assert named["is_first"].tolist() == [1, 0, 0, 1]


def test_controls_of_a_moment_are_those_of_its_occasion() -> None:
    log = histories(EVENTS, num_users=2)
    at_day_9 = controls_of(log, np.array([1]), np.array([moment(9.2)]), event_types=TYPES)
    assert at_day_9[0] == pytest.approx(found(10).control_SC[2])
    after = controls_at(log, np.array([1, 2]), moment(8.9), event_types=TYPES)
    assert after[0] == pytest.approx(at_day_9[0])


@pytest.mark.parametrize("until", [4.0, 6.0])
def test_nothing_after_the_end_counts(until: float) -> None:
    whole, cut = histories(EVENTS, num_users=2), moment(until) - 1
    before = histories([event for event in EVENTS if event[1] < until], num_users=2)
    for name, array in vars(occasions_of(whole, until=cut, horizon_days=2, event_types=TYPES)).items():
        other = getattr(occasions_of(before, until=cut, horizon_days=2, event_types=TYPES), name)
        np.testing.assert_array_equal(array, other, err_msg=name)


def test_money_and_return_by_hand() -> None:
    """On day 0: 9 paid, and one day with an event in the 6 days after it, at the money a day of all users (9
    on 4 days), as nothing is known of this user before. On day 3: one day, of a user who paid 9 on one.
    """
    log = histories(EVENTS, num_users=2)
    at = np.array([moment(0.1), moment(3.1)])
    value = money_and_return(log, np.array([1, 1]), at, horizon_days=6, event_types=TYPES)
    a_day = 9 / 4
    assert value == pytest.approx([9 + a_day, (9 + 5 * a_day) / 6])


def test_a_search_without_an_item_makes_an_occasion_and_meets_nothing() -> None:
    events = [*EVENTS, (2, 7.0, "view", 0, 0.0)]
    occasions = occasions_of(
        histories(events, num_users=2), until=moment(10) - 1, horizon_days=4, event_types=TYPES
    )
    assert (occasions.day_S - DAY_0).tolist() == [0, 3, 9, 5, 7]
    assert (occasions.item_G > 0).all()
    assert len(occasions.item_G) == len(found(10).item_G)
