"""Ranking figures of four users and seven items, every one of them worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from math import log2
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recsys.baselines.ranking import MostPopular
from recsys.evaluation.ranking import OWN_MODEL, RankedViews, beyond_figures, rank_all, ranking_figures
from recsys.evaluation.scoring import ScoredUsers
from recsys.evaluation.views import ranking_views, seen_and_targets
from recsys.known_events import interactions_until
from tests.data.shop import PURCHASE, Event, Shop

# The cut is on day 80; items 6 and 7 are first seen after it. Sold in the 30 days before the cut:
# item 5 four times, item 2 three times, item 3 twice, item 1 once, item 4 never.
EVENTS = [
    Event(1, 60, 1),
    Event(1, 61, 2),
    Event(1, 85, 2),
    Event(1, 86, 4),
    Event(1, 87, 7),
    Event(2, 62, 3),
    Event(2, 63, 3),
    Event(2, 90, 3),
    Event(2, 91, 6),
    Event(3, 95, 1),
    Event(3, 96, 5),
    Event(3, 97, 6),
    Event(4, 64, 2),
    Event(4, 65, 2),
    *(Event(4, day, 5) for day in (66, 67, 68, 69)),
]
KNOWN = np.array([False, True, True, True, True, True, False, False])
SCORES = np.array(
    [  # column 0 is padding: its score must count for nothing
        [9.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3],
        [9.0, 0.1, 0.2, 0.9, 0.3, 0.4, 0.8, 0.7],
        [9.0, 0.5, 0.4, 0.3, 0.2, 0.1, 0.6, 0.7],
        [9.0, 0.5, 0.4, 0.3, 0.2, 0.1, 0.6, 0.7],
    ],
    np.float32,
)
POPULAR = MostPopular.name


def chunks() -> Iterator[ScoredUsers]:
    """Two chunks, their users in no order."""
    for rows in ([3, 0], [2, 1]):
        yield ScoredUsers(
            rows=np.array(rows),
            score_BV=SCORES[rows],
            vector_BS=np.array(rows, float)[:, None],
            spend_BH=None,
            return_BJ=None,
            conversion_B=None,
        )


@pytest.fixture(scope="module")
def found() -> tuple[RankedViews, list[ScoredUsers]]:
    of: Any = Shop(EVENTS, 4, num_items=7)
    of.metadata |= {"event_types": {"purchase": PURCHASE}, "has_time": True}
    table = of.at_cut(split="test")
    return rank_all(
        chunks=chunks(),
        baselines=[MostPopular(interactions=interactions_until(of, table))],
        views=ranking_views(of, table, SimpleNamespace(in_training=KNOWN), known=KNOWN),  # type: ignore[arg-type]
        seen=seen_and_targets(of, table)[0],
    )


@pytest.fixture(scope="module")
def figures(found: tuple[RankedViews, list[ScoredUsers]]) -> dict[str, Any]:
    return ranking_figures(found[0])[0]


def lists(found: tuple[RankedViews, list[ScoredUsers]], view: str, model: str) -> list[list[int]]:
    """Each user's ranked list, without the zeros where candidates ran out."""
    ranked_UK = found[0].ranked[view][model]
    assert ranked_UK.shape[1] == 50
    return [[int(item) for item in row if item] for row in ranked_UK]


def test_each_view_ranks_its_own_candidates(found: tuple[RankedViews, list[ScoredUsers]]) -> None:
    assert lists(found, "all", OWN_MODEL) == [[1, 2, 3, 4, 5], [3, 5, 4, 2, 1]]
    assert lists(found, "not_yet_bought", OWN_MODEL) == [[3, 4, 5]]  # user 1 has 1 and 2
    assert lists(found, "cold_items", OWN_MODEL) == [[6, 7], [6, 7]]
    assert lists(found, "cold_users", OWN_MODEL) == [[1, 2, 3, 4, 5]]
    assert lists(found, "all", POPULAR) == [[5, 2, 3, 1, 4]] * 2
    assert lists(found, "not_yet_bought", POPULAR) == [[5, 3, 4]]
    assert lists(found, "cold_users", POPULAR) == [[5, 2, 3, 1, 4]]


def test_the_models_own_scores_stand_beside_its_items(found: tuple[RankedViews, list[ScoredUsers]]) -> None:
    score_UK = found[0].own_score["all"]
    np.testing.assert_allclose(score_UK[:, :5], [[0.9, 0.8, 0.7, 0.6, 0.5], [0.9, 0.4, 0.3, 0.2, 0.1]])
    np.testing.assert_allclose(found[0].own_score["cold_items"][:, :2], [[0.4, 0.3], [0.8, 0.7]])


def test_the_chunks_come_back_without_their_scores(found: tuple[RankedViews, list[ScoredUsers]]) -> None:
    assert [chunk.score_BV.size for chunk in found[1]] == [0, 0]
    assert [chunk.vector_BS[:, 0].tolist() for chunk in found[1]] == [[3, 0], [2, 1]]


IDEAL_2 = 1 + 1 / log2(3)  # two targets on ranks 1 and 2
# Targets: {2, 4} of user 1 and {3} of user 2; {4} of user 1; {7} and {6}; {1, 5} of user 3, whose 6 is new.
NDCG = {
    f"all/ndcg@10/{OWN_MODEL}": ((1 / log2(3) + 1 / log2(5)) / IDEAL_2 + 1) / 2,  # ranks 2 and 4; rank 1
    f"all/ndcg@10/{POPULAR}": ((1 / log2(3) + 1 / log2(6)) / IDEAL_2 + 1 / log2(4)) / 2,
    f"not_yet_bought/ndcg@10/{OWN_MODEL}": 1 / log2(3),  # rank 2
    f"not_yet_bought/ndcg@10/{POPULAR}": 1 / log2(4),
    f"cold_items/ndcg@10/{OWN_MODEL}": (1 / log2(3) + 1) / 2,
    f"cold_users/ndcg@10/{OWN_MODEL}": (1 + 1 / log2(6)) / IDEAL_2,  # ranks 1 and 5
    f"cold_users/ndcg@10/{POPULAR}": (1 / log2(5) + 1) / IDEAL_2,  # ranks 4 and 1
}


@pytest.mark.parametrize("name", NDCG)
def test_ndcg(figures: dict[str, Any], name: str) -> None:
    assert figures[f"ranking/{name}"]["value"] == pytest.approx(NDCG[name])


def test_the_difference_to_popularity_is_that_of_the_two_figures(figures: dict[str, Any]) -> None:
    for view in ("all", "not_yet_bought", "cold_users"):
        difference = figures[f"ranking/{view}/ndcg@10/{OWN_MODEL}_minus_{POPULAR}"]
        own, popular = (NDCG[f"{view}/ndcg@10/{model}"] for model in (OWN_MODEL, POPULAR))
        assert difference["value"] == pytest.approx(own - popular)


def test_other_metrics_and_the_number_of_users(figures: dict[str, Any]) -> None:
    expected = {
        f"all/recall@10/{OWN_MODEL}": 1.0,
        f"all/precision@10/{OWN_MODEL}": (2 / 10 + 1 / 10) / 2,
        f"all/mrr@10/{OWN_MODEL}": (1 / 2 + 1) / 2,
        f"cold_users/mrr@10/{OWN_MODEL}": 1.0,
        f"not_yet_bought/mrr@10/{POPULAR}": 1 / 3,
        f"cold_items/hr@10/{OWN_MODEL}": 1.0,
    }
    for name, value in expected.items():
        assert figures[f"ranking/{name}"]["value"] == pytest.approx(value), name
    counts = {"all": 2, "not_yet_bought": 1, "cold_items": 2, "cold_users": 1}
    for view, num_users in counts.items():
        assert figures[f"ranking/{view}/ndcg@10/{OWN_MODEL}"]["n"] == num_users


def test_a_view_without_users_has_no_figures() -> None:
    of: Any = Shop([Event(1, 10, 1), Event(1, 90, 2)], 1, num_items=7)
    table, items = of.at_cut(split="test"), SimpleNamespace(in_training=KNOWN)
    views = ranking_views(of, table, items, known=KNOWN)  # type: ignore[arg-type]
    result, _ = rank_all(chunks=iter(()), baselines=[], views=views, seen=seen_and_targets(of, table)[0])
    figures, own = ranking_figures(result)
    assert set(own) == {"all", "not_yet_bought"}
    assert not [name for name in figures if "cold" in name]


def test_reach_of_the_lists_over_the_whole_catalogue(found: tuple[RankedViews, list[ScoredUsers]]) -> None:
    items = SimpleNamespace(popularity=np.zeros(8, np.int64))
    figures, curve = beyond_figures(found[0], items=items, vectors_VS=np.ones((8, 2)))  # type: ignore[arg-type]
    assert figures[f"beyond/coverage@10/{OWN_MODEL}"]["value"] == pytest.approx(5 / 7)
    share = {(row["model"], row["k"]): row["share"] for row in curve}
    assert share[OWN_MODEL, 1] == pytest.approx(2 / 7)  # items 1 and 3
    assert share[POPULAR, 1] == pytest.approx(1 / 7)  # item 5 for both
    assert figures[f"beyond/ild@10/{OWN_MODEL}"]["value"] == pytest.approx(0)  # all vectors are the same
    assert figures[f"beyond/novelty@10/{OWN_MODEL}"]["value"] == pytest.approx(log2(7))  # none was ever sold
