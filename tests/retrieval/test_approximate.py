"""The approximate index finds most of what exact retrieval finds, with exact scores, and nothing hidden.

Legend: B users, V items (row 0 is padding), D width, K ranks.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recsys.metrics.ragged import Ragged
from recsys.retrieval.approximate import ApproximateConfig, ApproximateIndex, faiss_module
from recsys.schema import InputError

NUM_USERS, NUM_ITEMS, WIDTH, K = 40, 3000, 8, 10


@pytest.fixture
def vectors() -> tuple[torch.Tensor, torch.Tensor]:
    """Users and items near twenty centres."""
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(20, WIDTH, generator=random)

    def near(number: int) -> torch.Tensor:
        which = torch.randint(20, (number,), generator=random)
        return F.normalize(centres[which] + 0.4 * torch.randn(number, WIDTH, generator=random), dim=1)

    return near(NUM_USERS), torch.cat([torch.ones(1, WIDTH), near(NUM_ITEMS)])


def sorted_whole(score_BV: torch.Tensor) -> np.ndarray:
    score_BV = score_BV.clone()
    score_BV[:, 0] = -torch.inf
    return np.argsort(-score_BV.numpy(), axis=1, kind="stable")[:, :K]


def share_found(found_BK: torch.Tensor, best_BK: np.ndarray) -> float:
    pairs = zip(found_BK.tolist(), best_BK.tolist(), strict=True)
    return float(np.mean([len(set(one) & set(other)) / K for one, other in pairs]))


def test_most_of_the_best_are_found_with_their_scores(vectors: tuple[torch.Tensor, torch.Tensor]) -> None:
    pytest.importorskip("faiss")
    user_BD, item_VD = vectors
    config = ApproximateConfig(num_lists=32, num_probes=8, num_candidates=100)
    found = ApproximateIndex.build(item_VD=item_VD, config=config).top_items(user_BD=user_BD, k=K)
    score_BV = user_BD @ item_VD.T
    assert share_found(found.item_BK, sorted_whole(score_BV)) >= 0.95
    torch.testing.assert_close(found.score_BK, score_BV.gather(1, found.item_BK))
    assert (found.score_BK.diff(dim=1) <= 0).all()


def test_all_lists_and_candidates_leave_nothing_out(vectors: tuple[torch.Tensor, torch.Tensor]) -> None:
    """With a bias that decides much, items that it takes out, and seen ones."""
    pytest.importorskip("faiss")
    user_BD, item_VD = vectors
    random = np.random.default_rng(0)
    bias_V = torch.from_numpy(random.normal(size=NUM_ITEMS + 1).astype(np.float32))
    bias_V[5::7] = -torch.inf
    seen_BV = random.random((NUM_USERS, NUM_ITEMS + 1)) < 0.1
    config = ApproximateConfig(num_lists=4, num_probes=4, num_candidates=NUM_ITEMS)
    index = ApproximateIndex.build(item_VD=item_VD, bias_V=bias_V, config=config)
    found = index.top_items(
        user_BD=user_BD, k=K, seen=Ragged.from_lists([np.flatnonzero(row) for row in seen_BV])
    )
    score_BV = (user_BD @ item_VD.T + bias_V).masked_fill(torch.from_numpy(seen_BV), -torch.inf)
    np.testing.assert_array_equal(found.item_BK.numpy(), sorted_whole(score_BV))
    torch.testing.assert_close(found.score_BK, score_BV.gather(1, found.item_BK))


def test_equal_scores_go_by_item_index_and_candidates_run_out() -> None:
    pytest.importorskip("faiss")
    item_VD = torch.tensor([[9.0, 9]] + [[1, 0]] * 20 + [[0, 1]] * 4)
    config = ApproximateConfig(num_lists=1, num_probes=1, num_candidates=24)
    index = ApproximateIndex.build(item_VD=item_VD, config=config)
    seen = Ragged.from_lists([[3], [*range(1, 21), 23]])
    found = index.top_items(user_BD=torch.tensor([[1.0, 0], [0, 2]]), k=4, seen=seen)
    assert found.item_BK.tolist() == [[1, 2, 4, 5], [21, 22, 24, 0]]
    assert found.score_BK.tolist() == [[1, 1, 1, 1], [2, 2, 2, -np.inf]]
    assert index.top_items(user_BD=torch.zeros(0, 2), k=4).item_BK.shape == (0, 4)


def test_without_faiss_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"pip install 'recsys-aurm\[retrieval\]'"):
        faiss_module()


@pytest.mark.parametrize("name", ["num_lists", "num_probes", "num_candidates"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=name):
        ApproximateConfig(**{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("num_items", [0, 1, 10])
def test_few_items_are_left_to_exact_retrieval(num_items: int) -> None:
    pytest.importorskip("faiss")
    with pytest.raises(InputError, match=f"from {num_items} items; .* leave approximate out"):
        ApproximateIndex.build(item_VD=torch.ones(1 + num_items, 4))


def test_codes_that_faiss_does_not_know_are_refused(vectors: tuple[torch.Tensor, torch.Tensor]) -> None:
    pytest.importorskip("faiss")
    with pytest.raises(InputError, match=r"approximate\.codes=XX"):
        ApproximateIndex.build(item_VD=vectors[1], config=ApproximateConfig(codes="XX"))


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_vectors_that_are_no_numbers_are_refused(
    vectors: tuple[torch.Tensor, torch.Tensor], wrong: float
) -> None:
    pytest.importorskip("faiss")
    user_BD, item_VD = vectors
    index = ApproximateIndex.build(item_VD=item_VD)
    user_BD[3, 0] = wrong
    with pytest.raises(InputError, match="user vectors are not finite"):
        index.top_items(user_BD=user_BD, k=K)
    item_VD[7, 0] = wrong
    with pytest.raises(InputError, match="item vectors or biases are not finite"):
        ApproximateIndex.build(item_VD=item_VD)
