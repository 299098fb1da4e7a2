"""Against hand calculations and torchmetrics' retrieval metrics."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.retrieval import (
    retrieval_hit_rate,
    retrieval_normalized_dcg,
    retrieval_precision,
    retrieval_recall,
    retrieval_reciprocal_rank,
)

from recsys.metrics.ragged import Ragged
from recsys.metrics.ranking import ranking_metrics


def test_by_hand() -> None:
    ranked_UK = np.array([[5, 2, 9, 1], [4, 3, 0, 0]])
    targets = Ragged.from_lists([[2, 1, 7], [8]])
    found = ranking_metrics(ranked_UK=ranked_UK, targets=targets, ks=(1, 4))
    # User 0 hits at ranks 2 and 4; the best list of 4 would hit at 1, 2 and 3. User 1 never hits.
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    ndcg = (1 / math.log2(3) + 1 / math.log2(5)) / ideal
    assert found["hr@4"].tolist() == [1, 0]
    assert found["hr@1"].tolist() == [0, 0]
    assert found["ndcg@4"] == pytest.approx([ndcg, 0])
    assert found["recall@4"] == pytest.approx([2 / 3, 0])
    assert found["precision@4"] == pytest.approx([2 / 4, 0])
    assert found["mrr@4"] == pytest.approx([1 / 2, 0])
    assert found["mrr@1"].tolist() == [0, 0]


def test_agrees_with_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    num_users, num_items = 200, 80
    scores_UV = rng.random((num_users, num_items))  # torchmetrics takes scores <= 0 as not retrieved
    is_target_UV = rng.random((num_users, num_items)) < 0.08
    is_target_UV[:, 0] |= ~is_target_UV.any(axis=1)
    ranked_UK = np.argsort(-scores_UV, axis=1)[:, :50] + 1
    targets = Ragged.from_lists([np.flatnonzero(row) + 1 for row in is_target_UV])
    found = ranking_metrics(ranked_UK=ranked_UK, targets=targets)
    theirs = {
        "hr": retrieval_hit_rate,
        "ndcg": retrieval_normalized_dcg,
        "recall": retrieval_recall,
        "precision": retrieval_precision,
        "mrr": retrieval_reciprocal_rank,
    }
    for name, metric in theirs.items():
        for k in (10, 50):
            expected = [
                float(metric(torch.from_numpy(score), torch.from_numpy(target), top_k=k))
                for score, target in zip(scores_UV, is_target_UV, strict=True)
            ]
            assert found[f"{name}@{k}"] == pytest.approx(expected, abs=1e-6), name


def test_padding_never_hits_and_repeated_targets_count_once() -> None:
    found = ranking_metrics(ranked_UK=np.array([[0, 7, 0]]), targets=Ragged.from_lists([[7, 7, 7]]), ks=(3,))
    assert found["recall@3"].tolist() == [1]
    assert found["ndcg@3"] == pytest.approx([1 / math.log2(3)])


def test_users_do_not_share_targets() -> None:
    found = ranking_metrics(
        ranked_UK=np.array([[1, 2], [1, 2]]), targets=Ragged.from_lists([[1], [2]]), ks=(1,)
    )
    assert found["hr@1"].tolist() == [1, 0]


def test_a_user_without_targets_is_refused() -> None:
    with pytest.raises(AssertionError, match="no targets"):
        ranking_metrics(ranked_UK=np.array([[1], [2]]), targets=Ragged.from_lists([[1], []]), ks=(1,))


def test_a_repeated_item_is_refused() -> None:
    with pytest.raises(AssertionError, match="twice"):
        ranking_metrics(ranked_UK=np.array([[1, 2, 1]]), targets=Ragged.from_lists([[1]]), ks=(3,))
