from collections.abc import Callable

import numpy as np
import pytest

from recsys.baselines.interactions import Interactions
from recsys.baselines.purchase_summary import summarise_purchases
from recsys.schema import SECONDS_PER_DAY, InputError

Make = Callable[..., Interactions]


def test_by_hand(purchases: Make) -> None:
    # User 0 buys on days 40 (twice) and 70; user 1 on day 99; user 2 never.
    events = [(0, 1, 40.2, 10.0), (0, 2, 40.9, 20.0), (0, 1, 70.5, 6.0), (1, 1, 99.5, 5.0)]
    found = summarise_purchases(purchases(events, num_users=3, num_items=2))
    assert found.frequency.tolist() == [1, 0, -1]
    assert found.recency_days.tolist() == [30, 0, 0]
    assert found.age_days.tolist() == [60, 1, 0]
    assert found.mean_day_spend.tolist() == [18, 5, 0]
    assert found.net_spend.tolist() == [36, 5, 0]
    assert found.tenure_days == pytest.approx([59.8, 0.5, 0], abs=1e-4)
    assert found.has_bought.tolist() == [True, True, False]
    assert found.net_share == 1


def test_returns_and_views_are_no_purchases() -> None:
    found = summarise_purchases(
        Interactions.from_events(
            row=np.zeros(3, int),
            item_index=np.ones(3, int),
            timestamp=np.array([10, 20, 30]) * SECONDS_PER_DAY,
            value=np.array([0.0, 40.0, -10.0]),
            is_target=np.array([False, True, False]),
            is_purchase=np.array([False, True, False]),
            num_users=1,
            num_items=1,
            cut=50 * SECONDS_PER_DAY,
        )
    )
    assert (found.frequency[0], found.age_days[0], found.tenure_days[0]) == (0, 30, 40)
    assert (found.mean_day_spend[0], found.net_spend[0], found.net_share) == (40, 30, 0.75)


def test_data_without_times_is_refused(purchases: Make) -> None:
    with pytest.raises(InputError, match="no"):
        summarise_purchases(purchases([(0, 1, 1, 1.0)], num_users=1, num_items=1, has_time=False))
