from collections.abc import Callable

import numpy as np

from recsys.baselines.interactions import Interactions
from recsys.baselines.ranking import MostPopular, RepeatPurchase

Make = Callable[..., Interactions]


def order(scores_BV: np.ndarray, row: int = 0) -> list[int]:
    """Items by falling score, padding left out."""
    assert np.isneginf(scores_BV[:, 0]).all()
    assert scores_BV.dtype == np.float32
    return np.argsort(-scores_BV[row], kind="stable")[:-1].tolist()


def test_popularity_counts_the_window_first_and_all_time_after(purchases: Make) -> None:
    old = [(0, 1, 10, 1.0)] * 5 + [(0, 4, 10, 1.0)] * 2 + [(0, 2, 69, 1.0)]
    new = [(1, 3, 80, 1.0)] * 2 + [(1, 2, 90, 1.0)] * 3
    ranker = MostPopular(interactions=purchases(old + new, num_users=2, num_items=5))
    scores_BV = ranker.scores(np.array([1, 0]))
    assert order(scores_BV) == order(scores_BV, 1) == [2, 3, 1, 4, 5]


def test_popularity_without_times_counts_everything(purchases: Make) -> None:
    events = [(0, 1, 1, 1.0)] * 3 + [(0, 2, 9_000, 1.0)] * 2
    ranker = MostPopular(interactions=purchases(events, num_users=1, num_items=2, has_time=False))
    assert order(ranker.scores(np.array([0]))) == [1, 2]


def test_own_items_come_first_by_weight_then_date(purchases: Make) -> None:
    # Half life 10 days. User 0: item 4 weighs 1/2 + 1/4, item 5 weighs 1/2, item 6 2**-6; items 2 and 3 tie
    # in weight and date, and 3 is the more popular. User 1 makes item 1 popular. User 2 is new.
    events = [(0, 4, 90, 1.0), (0, 4, 80, 1.0), (0, 5, 90, 1.0), (0, 6, 40, 1.0)]
    events += [(0, 2, 30, 1.0), (0, 3, 30, 1.0)]
    events += [(1, 1, 99, 1.0)] * 4 + [(1, 3, 99, 1.0)] * 2
    ranker = RepeatPurchase(interactions=purchases(events, num_users=3, num_items=7), half_life_days=10)
    scores_BV = ranker.scores(np.array([0, 1, 2]))
    assert order(scores_BV) == [4, 5, 6, 3, 2, 1, 7]
    assert order(scores_BV, 1)[:2] == [1, 3]
    assert order(scores_BV, 2)[:2] == [1, 3]


def test_repeats_without_times_are_counted(purchases: Make) -> None:
    events = [(0, 1, 1, 1.0), (0, 1, 2, 1.0), (0, 2, 3, 1.0), (0, 3, 4, 1.0)]
    ranker = RepeatPurchase(interactions=purchases(events, num_users=1, num_items=4, has_time=False))
    assert order(ranker.scores(np.array([0]))) == [1, 3, 2, 4]


def test_very_old_items_still_come_before_popularity(purchases: Make) -> None:
    events = [(0, 2, 0, 1.0), (0, 3, 1, 1.0)] + [(1, 1, 99, 1.0)] * 9
    ranker = RepeatPurchase(interactions=purchases(events, num_users=2, num_items=3), half_life_days=0.5)
    assert order(ranker.scores(np.array([0]))) == [3, 2, 1]
