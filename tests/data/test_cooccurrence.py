"""Start vectors: items bought by the same users lie close, and nothing after the boundary counts."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.data import cooccurrence, flat
from recsys.data.sample_config import SampleConfig
from recsys.data.samples import TrainingSamples
from tests.data.shop import Event, Shop

TOGETHER = ((1, 2, 3), (4, 5, 6))


def shop(*, after: bool = False) -> Shop:
    """Even users buy one set, odd users the other; `after` day 60 they swap."""
    events = [
        Event(user, 5 + 10 * k + user % 3, item)
        for user in range(1, 31)
        for k, item in enumerate(TOGETHER[user % 2])
    ]
    if after:
        events += [Event(user, 70, item) for user in range(1, 31) for item in TOGETHER[1 - user % 2]]
    return Shop(sorted(events, key=lambda e: e.day), 30, num_items=7)


def vectors(of: Shop, *, width: int = 4) -> np.ndarray:
    samples = TrainingSamples(tables=of, fit_until="validation", config=SampleConfig())  # type: ignore[arg-type]
    return cooccurrence.cooccurrence_vectors(samples, width=width)


@pytest.mark.parametrize("most_items", [10_000, 0])
def test_items_bought_together_lie_close(monkeypatch: pytest.MonkeyPatch, most_items: int) -> None:
    monkeypatch.setattr(cooccurrence, "MAX_DENSE_ITEMS", most_items)
    found_VD = vectors(shop())
    near_VV = found_VD @ found_VD.T
    assert min(near_VV[1, 2], near_VV[2, 3], near_VV[4, 5]) > 3 * abs(near_VV[1, 4]) + 0.1
    assert np.linalg.norm(found_VD, axis=1).max() == pytest.approx(1, abs=1e-5)
    assert not found_VD[[0, 7]].any(), "padding and an item without events are zero"


@pytest.mark.parametrize("most_items", [10_000, 0])
def test_blocks_of_users_give_the_vectors_of_one_block(
    monkeypatch: pytest.MonkeyPatch, most_items: int
) -> None:
    monkeypatch.setattr(cooccurrence, "MAX_DENSE_ITEMS", most_items)
    whole_VD = vectors(shop())
    monkeypatch.setattr(flat, "BLOCK_ROWS", 4)
    found_VD = vectors(shop())
    np.testing.assert_allclose(found_VD @ found_VD.T, whole_VD @ whole_VD.T, atol=1e-5)


def test_of_too_many_events_some_users_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrence, "MAX_DENSE_ITEMS", 0)
    monkeypatch.setattr(cooccurrence, "_MAX_SVD_EVENTS", 30)  # of 90: every third user
    found_VD = vectors(shop())
    near_VV = found_VD @ found_VD.T
    assert min(near_VV[1, 2], near_VV[4, 5]) > 3 * abs(near_VV[1, 4]) + 0.1


def test_the_time_after_the_boundary_does_not_count() -> None:
    one, other = vectors(shop()), vectors(shop(after=True))
    np.testing.assert_allclose(one @ one.T, other @ other.T, atol=1e-5)


def test_a_width_beyond_the_rank_is_padded_with_zeros() -> None:
    found_VD = vectors(shop(), width=16)
    assert found_VD.shape == (8, 16)
    assert np.isfinite(found_VD).all()


def test_neighbours_are_the_strongest_weights_of_ease() -> None:
    """EASE by its formula: P = (X'X + l2 I)^-1, and the weight of i towards j is -P[i, j] / P[j, j]."""
    samples = TrainingSamples(tables=shop(), fit_until="validation", config=SampleConfig())  # type: ignore[arg-type]
    item_VK, weight_VK = cooccurrence.neighbours(samples, num_neighbours=2)
    taken_UV = np.array(
        [[item in TOGETHER[user % 2] for item in range(1, 8)] for user in range(1, 31)], float
    )
    inverse_VV = np.linalg.inv(taken_UV.T @ taken_UV + 300 * np.eye(7))
    assert set(item_VK[1]) == {2, 3}
    assert set(item_VK[5]) == {4, 6}
    np.testing.assert_allclose(weight_VK[5], -inverse_VV[3, 4] / inverse_VV[4, 4], rtol=1e-5)
    assert not item_VK[[0, 7]].any(), "padding and an item without events have none"
    assert not weight_VK[[0, 7]].any()


def test_more_neighbours_than_items_are_filled_up_with_nothing() -> None:
    samples = TrainingSamples(tables=shop(), fit_until="validation", config=SampleConfig())  # type: ignore[arg-type]
    item_VK, weight_VK = cooccurrence.neighbours(samples, num_neighbours=20)
    assert item_VK.shape == weight_VK.shape == (8, 20)
    assert [sorted(row[row > 0]) for row in item_VK[[1, 4]]] == [[2, 3], [5, 6]]
