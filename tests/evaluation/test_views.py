"""Who is ranked, over what, against what: by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recsys.evaluation.views import View, ranking_views, seen_and_targets, top_ranked
from recsys.metrics.ragged import Ragged
from tests.data.shop import RETURN, VIEW, Event, Shop

# The cut is on day 80, the window ends on day 110; item 6 is first seen after the cut.
EVENTS = [
    Event(1, 10, 1),
    Event(1, 20, 2),
    Event(1, 30, 3, kind=VIEW),
    Event(1, 85, 2),
    Event(1, 86, 4),
    Event(1, 87, 4),
    Event(1, 88, 5, kind=VIEW),
    Event(1, 89, 6),
    Event(1, 111, 1),
    Event(2, 15, 4),
    Event(2, 90, 5, returned_day=100),
    Event(2, 100, 5, kind=RETURN),
    Event(3, 95, 1),
    Event(3, 96, 2, returned_day=115),
]


def shop(**changes: Any) -> Shop:
    return Shop(EVENTS, 3, num_items=6, **changes)


def views(of: Shop) -> dict[str, View]:
    known = np.array([False, True, True, True, True, True, False])
    items = SimpleNamespace(in_training=known)
    found = ranking_views(of, of.at_cut(split="test"), items, known=known)  # type: ignore[arg-type]
    return {view.name: view for view in found}


def targets(view: View) -> dict[int, list[int]]:
    return {int(row) + 1: view.targets.row(k).tolist() for k, row in enumerate(view.rows)}


def test_seen_and_targets_are_what_was_taken_and_kept() -> None:
    of = shop()
    seen, wanted = seen_and_targets(of, of.at_cut(split="test"))  # type: ignore[arg-type]
    assert [seen.row(u).tolist() for u in range(3)] == [[1, 2], [4], []]
    assert [wanted.row(u).tolist() for u in range(3)] == [[2, 4, 6], [], [1, 2]]


def test_the_four_views() -> None:
    found = views(shop())
    assert targets(found["all"]) == {1: [2, 4]}
    assert targets(found["not_yet_bought"]) == {1: [4]}
    assert targets(found["cold_items"]) == {1: [6]}
    assert targets(found["cold_users"]) == {3: [1, 2]}
    assert [found[name].hides_seen for name in found] == [False, True, False, False]
    assert np.flatnonzero(found["all"].candidate).tolist() == [1, 2, 3, 4, 5]
    assert np.flatnonzero(found["cold_items"].candidate).tolist() == [6]


def test_where_seen_items_are_filtered_they_are_neither_targets_nor_candidates() -> None:
    found = views(shop(filter_seen=True))
    assert targets(found["all"]) == {1: [4]}
    assert found["all"].hides_seen


def test_leave_one_out_asks_for_the_one_event_after_the_prefix() -> None:
    of = Shop([Event(1, k, k) for k in range(1, 6)], 1, num_items=6, is_time_split=False)
    for split, wanted_item in (("validation", 4), ("test", 5)):
        seen, wanted = seen_and_targets(of, of.at_cut(split=split))  # type: ignore[arg-type]
        assert wanted.row(0).tolist() == [wanted_item]
        assert seen.row(0).tolist() == list(range(1, wanted_item))


def ranked(scores: list[list[float]], *, seen: Ragged | None = None, k: int = 3, without: int = 0) -> Any:
    candidate = np.arange(len(scores[0])) > 0
    candidate[without] = False
    return top_ranked(
        np.array(scores), candidate=candidate, seen=seen, rows=np.arange(len(scores)), k=k
    ).tolist()


def test_the_best_come_first_and_padding_never() -> None:
    assert ranked([[9, 1, 4, 2, 3], [9, 8, 7, 6, 5]]) == [[2, 4, 3], [1, 2, 3]]


def test_what_is_no_candidate_or_was_seen_is_left_out() -> None:
    assert ranked([[9, 1, 4, 2, 3]], without=2) == [[4, 3, 1]]
    seen = Ragged.from_lists([[2, 4], [1]])
    assert ranked([[9, 1, 4, 2, 3], [9, 8, 7, 6, 5]], seen=seen) == [[3, 1, 0], [2, 3, 4]]


def test_where_candidates_run_out_the_list_ends_in_zeros() -> None:
    assert ranked([[0, 1, 2]], k=5) == [[2, 1, 0, 0, 0]], "a catalogue shorter than the list"
    assert ranked([[0, -np.inf, 2]], k=2) == [[2, 0]]


def test_ties_fall_the_same_way_each_time_and_favour_no_index() -> None:
    flat = [[0.0] * 1001]
    first, second = (ranked(flat, k=50)[0] for _ in range(2))
    assert first == second
    assert len(set(first)) == 50
    assert 350 < np.mean(first) < 650, "the mean of 1 to 1000 is 500; the order of indices would give 25"


def test_a_tie_of_two_does_not_disturb_the_rest() -> None:
    best, *tied, last = ranked([[0, 5, 3, 3, 1]], k=4)[0]
    assert (best, sorted(tied), last) == (1, [2, 3], 4)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_it_is_a_full_sort_cut_off(k: int) -> None:
    scores = np.random.default_rng(0).permutation(44).reshape(4, 11).astype(float)
    expected = [[1 + int(i) for i in np.argsort(-row[1:])[:k]] for row in scores]
    assert ranked(scores.tolist(), k=k) == expected
