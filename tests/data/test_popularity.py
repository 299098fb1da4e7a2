"""Dated counts, against a plain count."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from recsys.data import flat
from recsys.data.popularity import period_starts, popularity_at
from tests.data.shop import DAY, VIEW, Event, Shop, many_users


def test_windows_end_at_the_time_and_only_purchases_count() -> None:
    events = [
        Event(1, 10, 3),
        Event(1, 60, 3),
        Event(1, 95, 3),
        Event(1, 100, 3),
        Event(1, 100, 4, kind=VIEW),
    ]
    counts_TVW = popularity_at(Shop(events, 1), np.array([100 * DAY, 99 * DAY]))  # type: ignore[arg-type]
    assert counts_TVW[0, 3, :3].tolist() == np.log1p(np.float32([2, 3, 4])).tolist()
    assert counts_TVW[1, 3, :3].tolist() == np.log1p(np.float32([1, 3, 3])).tolist()
    assert counts_TVW[:, 4, :3].tolist() == np.zeros((2, 3)).tolist()


def test_repurchase_is_the_share_of_users_who_came_back_shrunk() -> None:
    events = [Event(1, 1, 3), Event(1, 5, 3), Event(1, 9, 3), Event(2, 2, 3), Event(2, 3, 4)]
    again_TV = popularity_at(Shop(events, 2), np.array([4 * DAY, 9 * DAY]))[..., -1]  # type: ignore[arg-type]
    assert np.exp(again_TV[:, 3]).tolist() == pytest.approx([1 / 7, 2 / 7])
    assert np.exp(again_TV[1, [4, 5]]).tolist() == pytest.approx([1 / 6, 1 / 5])


def test_what_comes_later_changes_nothing() -> None:
    shop, times = many_users(), np.array([40 * DAY])
    known = Shop([e for e in shop.events if e.day <= 40], shop.num_users)
    np.testing.assert_array_equal(popularity_at(shop, times), popularity_at(known, times))  # type: ignore[arg-type]
    assert popularity_at(shop, times).max() > math.log(2)  # type: ignore[arg-type]


@pytest.mark.parametrize("block_rows", [1, 40])
def test_blocks_of_users_count_what_one_block_counts(
    monkeypatch: pytest.MonkeyPatch, block_rows: int
) -> None:
    shop: Any = many_users()
    times = np.array([80, 20, 50]) * DAY  # in any order
    whole = popularity_at(shop, times)
    monkeypatch.setattr(flat, "BLOCK_ROWS", block_rows)
    np.testing.assert_array_equal(popularity_at(shop, times), whole)


def test_periods_are_weeks_up_to_the_boundary() -> None:
    shop = Shop([Event(1, 3, 1), Event(1, 50, 2)], 1)
    assert (period_starts(shop, 24 * DAY) / DAY).tolist() == [3, 10, 17, 24]  # type: ignore[arg-type]


def test_without_time_nothing_is_popular_at_a_time() -> None:
    shop = Shop([Event(1, 3, 1), Event(1, 4, 2)], 1, is_time_split=False)
    starts = period_starts(shop, 0)  # type: ignore[arg-type]
    assert not popularity_at(shop, starts).any()  # type: ignore[arg-type]
    assert len(starts) == 1
