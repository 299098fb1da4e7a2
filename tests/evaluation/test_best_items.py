"""The best items found from parts of the scores are those that sorting all scores finds.

Legend: B users, V items (row 0 is padding), N candidates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recsys.data.cut_features import CutScaler, raw_cut_features
from recsys.evaluation.best_items import BestFinder, BestItems, finds_without_scores
from recsys.evaluation.scoring import ScoredUsers, score_users
from recsys.metrics.ragged import Ragged
from recsys.nn.item_tower import ItemTowerConfig
from recsys.nn.own_items import OwnItems
from recsys.nn.user_model import LinearScores, UserModel
from recsys.policy.slates import PolicyConfig
from recsys.retrieval.approximate import ApproximateConfig
from recsys.schema import InputError
from tests.data.shop import Shop, many_users
from tests.nn.small_model import catalogue, small_model

NUM_ROWS = 21


def model(**changes: Any) -> UserModel:
    tower = ItemTowerConfig(capacity=24, field_sizes=(4,), num_numeric=1, num_tokens=20, width=8)
    return small_model(item_tower=tower, **changes)


def scored(made: UserModel, *, linear: bool) -> ScoredUsers:
    shop = Shop(many_users().events, 22)  # the last user has no history
    table = shop.at_cut(split="test")
    (found,) = score_users(
        model=made,
        catalogue=catalogue(num_items=NUM_ROWS - 1),
        tables=shop,  # type: ignore[arg-type]
        table=table,
        scaler=CutScaler.fit(lambda: [raw_cut_features(table.activity)]),
        linear=linear,
    )
    return found


def sorted_whole(score_BV: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The plain twin."""
    item_BN = np.argsort(-score_BV, axis=1, kind="stable")[:, :k]
    score_BN = np.take_along_axis(score_BV, item_BN, axis=1)
    return np.where(score_BN == -np.inf, 0, item_BN), score_BN


@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize("repeats", [False, True])
def test_parts_give_what_all_scores_give(repeats: bool, hides: bool, turned: bool, k: int) -> None:
    made, random = model(repeats=repeats), np.random.default_rng(0)
    whole, parts = scored(made, linear=False), scored(made, linear=True)
    assert parts.linear is not None
    assert parts.score_BV.size == 0
    np.testing.assert_array_equal(parts.rows, whole.rows)
    np.testing.assert_array_equal(parts.vector_BS, whole.vector_BS)

    num_users = len(whole.rows)
    shift_V = random.normal(size=NUM_ROWS).astype(np.float32)
    shift_V[[0, 3, 7]] = -np.inf
    expected_BV, effect_V, more = whole.score_BV + shift_V, None, dict[str, Any]()
    if turned:
        effect_V = random.normal(size=NUM_ROWS).astype(np.float32)
        weight_B = random.uniform(0, 3, num_users).astype(np.float32)
        expected_BV = expected_BV + weight_B[:, None] * effect_V
        more["weight_B"] = weight_B
    if hides:
        seen_BV = random.random((num_users, NUM_ROWS)) < 0.4
        seen_BV[0, 1:] = True
        seen_BV[:, 0] = False
        expected_BV[seen_BV] = -np.inf
        more["seen"] = Ragged.from_lists([np.flatnonzero(row) for row in seen_BV])

    finder = BestFinder(shift_V=shift_V, effect_V=effect_V)
    for _ in range(2):  # the second time with what it has put together the first time
        found = finder.best(parts.linear, k=k, **more)
        item_BN, score_BN = sorted_whole(expected_BV, k)
        np.testing.assert_array_equal(found.item_BN, item_BN)
        np.testing.assert_allclose(found.score_BN, score_BN, atol=1e-5)


def test_an_index_that_leaves_nothing_out_gives_the_same() -> None:
    pytest.importorskip("faiss")
    parts = scored(model(), linear=True).linear
    assert parts is not None
    random = np.random.default_rng(0)
    shift_V, effect_V = random.normal(size=(2, NUM_ROWS)).astype(np.float32)
    shift_V[[3, 7]] = -np.inf
    weight_B = random.uniform(0, 3, len(parts.query_QS)).astype(np.float32)
    config = ApproximateConfig(num_lists=2, num_probes=2, num_candidates=NUM_ROWS)
    exact, approximate = (
        BestFinder(shift_V=shift_V, effect_V=effect_V, approximate=wanted).best(parts, k=9, weight_B=weight_B)
        for wanted in (None, config)
    )
    np.testing.assert_array_equal(approximate.item_BN, exact.item_BN)
    np.testing.assert_allclose(approximate.score_BN, exact.score_BN, atol=1e-5)


def by_hand() -> LinearScores:
    """Two users, four items at 1, 2, 2, 3; the first user owns item 1 at 2.5 and item 3 at 2."""
    item_BO = torch.tensor([[3, 1], [2, 0]])
    known_BO = torch.tensor([[True, True], [False, False]])
    query_BS = torch.tensor([[1.0], [-1.0]])
    empty = torch.zeros(0)
    return LinearScores(
        user_QS=query_BS,
        query_QS=query_BS,
        item_VS=torch.tensor([[9.0], [1], [2], [2], [3]]),
        term_V=torch.tensor([-torch.inf, 0, 0, 0, 0]),
        own=OwnItems(empty, empty, item_BO, known_BO, empty, empty, empty),
        own_logit_QO=torch.where(known_BO, torch.tensor([[2.0, 2.5], [0, 0]]), -torch.inf),
    )


def test_equal_scores_go_by_item_index() -> None:
    found = BestFinder(shift_V=np.zeros(5, np.float32)).best(by_hand(), k=9)
    assert found.item_BN.tolist() == [[4, 1, 2, 3, 0], [1, 2, 3, 4, 0]]
    assert found.score_BN.tolist() == [[3, 2.5, 2, 2, -np.inf], [-1, -2, -2, -3, -np.inf]]
    assert found.first(2).item_BN.tolist() == [[4, 1], [1, 2]]


def test_what_is_seen_is_no_candidate_own_or_not() -> None:
    seen = Ragged.from_lists([[4, 1], [1, 4, 2, 3]])
    found = BestFinder(shift_V=np.zeros(5, np.float32)).best(by_hand(), k=2, seen=seen)
    assert found.item_BN.tolist() == [[2, 3], [0, 0]]


@pytest.mark.parametrize("part", ["query_QS", "own_logit_QO"])
def test_scores_that_are_not_numbers_are_refused(part: str) -> None:
    parts = by_hand()._replace(**{part: torch.full_like(getattr(by_hand(), part), torch.nan)})
    with pytest.raises(InputError, match="not numbers"):
        BestFinder(shift_V=np.zeros(5, np.float32)).best(parts, k=2)


def test_the_best_of_all_scores() -> None:
    found = BestItems.of_scores(np.array([[-np.inf, 1, 2, 2], [-np.inf, -np.inf, 5, -np.inf]]), k=3)
    assert found.item_BN.tolist() == [[2, 3, 1], [2, 0, 0]]
    assert found.score_BN.tolist() == [[2, 2, 1], [5, -np.inf, -np.inf]]


def test_scores_are_needed_by_neighbours_and_by_policies_that_look_at_all_items() -> None:
    def policy(**settings: Any) -> PolicyConfig:
        return PolicyConfig(slate_size=2, **settings)

    few = [policy(kind="plackett_luce", num_candidates=5), policy(kind="deterministic")]
    few.append(policy(kind="deterministic", category_penalty=1, num_candidates=5))
    all_items = [policy(kind="plackett_luce"), policy(kind="deterministic", category_penalty=1)]
    assert all(finds_without_scores(model(), wanted) for wanted in few)
    assert not any(finds_without_scores(model(), wanted) for wanted in all_items)
    assert not any(finds_without_scores(model(num_neighbours=3), wanted) for wanted in few)
