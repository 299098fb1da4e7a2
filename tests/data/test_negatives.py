"""Drawn negatives: how often each item comes is what the weights say."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.data.negatives import Negatives

COUNT_V = np.array([0, 50, 30, 0, 5, 15, 0])
IN_TRAINING_V = np.array([False, True, True, True, True, False, True])


def negatives(num_draws: int = 4) -> Negatives:
    return Negatives(count_V=COUNT_V, in_training_V=IN_TRAINING_V, num_draws=num_draws)


def test_items_come_as_often_as_their_probability_says() -> None:
    times, said = np.zeros(7), np.full(7, np.nan)
    for step in range(4000):
        item, log_share = negatives().draw(seed=0, epoch=0, step=step)
        assert (np.diff(item) > 0).all()
        times[item] += 1
        said[item] = np.exp(log_share)
    # two uniform draws of five items, two by counts of 85 in all; item 5 is not learned, 0 is padding
    expected = [1 - (4 / 5) ** 2 * (1 - count / 85) ** 2 for count in (50, 30, 0, 5, 0)]
    assert said[[1, 2, 3, 4, 6]] == pytest.approx(expected, rel=1e-5)
    assert times[[1, 2, 3, 4, 6]] / 4000 == pytest.approx(expected, abs=0.025)
    assert not times[[0, 5]].any()


def test_draws_depend_on_the_step_alone() -> None:
    one, other, later = (negatives(40).draw(seed=1, epoch=2, step=step) for step in (3, 3, 4))
    assert one[0].tolist() == other[0].tolist()
    few = [negatives(2).draw(seed=1, epoch=2, step=step)[0].tolist() for step in range(20)]
    assert len({tuple(items) for items in few}) > 3
    assert later[0].tolist()


def test_the_sum_over_drawn_items_is_unbiased() -> None:
    weight_V = np.array([0.0, 1, 2, 7, 3, 100, 0.5])
    sums = []
    for step in range(4000):
        item, log_share = negatives().draw(seed=5, epoch=0, step=step)
        sums.append((weight_V[item] / np.exp(log_share)).sum())
    error = np.std(sums) / len(sums) ** 0.5
    assert np.mean(sums) == pytest.approx(13.5, abs=4 * error)


def test_a_catalogue_of_one_popular_item_can_be_drawn_from() -> None:
    only = Negatives(count_V=np.array([0, 9]), in_training_V=np.array([False, True]), num_draws=4)
    item, log_share = only.draw(seed=0, epoch=0, step=0)
    assert item.tolist() == [1]
    assert log_share.tolist() == pytest.approx([0.0], abs=1e-6)
