from collections.abc import Callable

import numpy as np
import pytest

from recsys.baselines.interactions import Interactions
from recsys.schema import SECONDS_PER_DAY, InputError

Make = Callable[..., Interactions]
EVENTS = [(2, 3, 50, 1.0), (0, 1, 90, 2.0), (2, 1, 40, 3.0), (2, 3, 95, 4.0), (0, 2, 90, 5.0)]


def test_events_are_sorted_by_user_and_time(purchases: Make) -> None:
    found = purchases(EVENTS, num_users=3, num_items=3)
    assert found.offsets.tolist() == [0, 2, 2, 5]
    assert found.item_index.tolist() == [1, 2, 1, 3, 3]
    assert found.value.tolist() == [2, 5, 3, 1, 4]
    assert found.row_of_event.tolist() == [0, 0, 2, 2, 2]


def test_counts_and_popularity(purchases: Make) -> None:
    found = purchases(EVENTS, num_users=3, num_items=3)
    assert found.target_counts().toarray().tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [0, 1, 0, 2]]
    assert found.popularity().tolist() == [0, 2, 1, 2]
    assert found.popularity(since=80 * SECONDS_PER_DAY).tolist() == [0, 1, 1, 1]


def test_only_targets_count(purchases: Make) -> None:
    found = Interactions.from_events(
        row=np.array([0, 0]),
        item_index=np.array([0, 2]),  # a search has no item
        timestamp=np.array([5, 6]),
        value=np.zeros(2),
        is_target=np.array([False, True]),
        is_purchase=np.array([False, False]),
        num_users=1,
        num_items=2,
        cut=6,
    )
    assert found.popularity().tolist() == [0, 0, 1]
    assert found.target_counts().toarray().tolist() == [[0, 0, 1]]


def test_an_event_after_the_cut_is_refused(purchases: Make) -> None:
    with pytest.raises(InputError, match="after the cut"):
        purchases([(0, 1, 100.1, 1.0)], num_users=1, num_items=1)


def test_an_item_beyond_the_catalogue_is_refused(purchases: Make) -> None:
    with pytest.raises(InputError, match=r"outside 0\.\.1"):
        purchases([(0, 2, 10, 1.0)], num_users=1, num_items=1)
