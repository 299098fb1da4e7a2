"""Accuracy of ranked lists, one figure per user.

Legend: U users, K rank (column 0 is rank 1), E target entries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.metrics.ragged import Ragged
from recsys.schema import PAD


def distinct(ragged: Ragged) -> Ragged:
    """The same rows with each value once, ascending."""
    width = int(ragged.values.max(initial=0)) + 1
    keys = np.unique(ragged.row_of_entry * width + ragged.values)
    return Ragged.from_pairs(row_E=keys // width, value_E=keys % width, num_rows=ragged.num_rows)


def hits(*, ranked_UK: np.ndarray, targets: Ragged) -> np.ndarray:
    """Whether the item at each rank is one of the user's targets; bool, shape (U, K). Item 0 never hits."""
    assert ranked_UK.ndim == 2, "ranked lists must have shape (U, K)"
    assert len(ranked_UK) == targets.num_rows, "one ranked list per row of targets"
    ranked_UK = ranked_UK.astype(np.int64)
    width = int(max(targets.values.max(initial=0), ranked_UK.max(initial=0))) + 1
    keys_E = np.unique(targets.row_of_entry * width + targets.values)
    keys_UK = np.arange(len(ranked_UK))[:, None] * width + ranked_UK
    if not len(keys_E):
        return np.zeros(ranked_UK.shape, dtype=bool)
    place_UK = np.minimum(np.searchsorted(keys_E, keys_UK), len(keys_E) - 1)
    return (keys_E[place_UK] == keys_UK) & (ranked_UK != PAD)


def ranking_metrics(
    *, ranked_UK: np.ndarray, targets: Ragged, ks: Sequence[int] = (10, 50)
) -> dict[str, np.ndarray]:
    """Accuracy at each cut-off of `ks`, per user, all relevances 0 or 1.

    * `hr@k`: 1 if any of the first k items is a target.
    * `ndcg@k`: sum of 1/log2(rank + 1) over hits, divided by that of the best possible list, which has
      min(k, number of targets) hits on top (Järvelin and Kekäläinen 2002).
    * `recall@k`: hits / number of targets.
    * `precision@k`: hits / k.
    * `mrr@k`: 1 / rank of the first hit, 0 without one.

    Args:
        ranked_UK: integer, shape (U, K) with K >= max(ks); item_index by falling score, 0 where the list is
            shorter than K. No item twice in a row.
        targets: the items each user is to be offered; a repeated target counts once. Every user has one.

    Returns:
        float64 arrays of shape (U,) by name.
    """
    assert ranked_UK.shape[1] >= max(ks), "ranked lists are shorter than the largest cut-off"
    sorted_UK = np.sort(ranked_UK, axis=1)
    repeated = (sorted_UK[:, 1:] == sorted_UK[:, :-1]) & (sorted_UK[:, 1:] != PAD)
    assert not repeated.any(), "a ranked list holds an item twice"
    num_targets_U = distinct(targets).lengths
    assert (num_targets_U > 0).all(), "a user has no targets: leave such users out"

    hit_UK = hits(ranked_UK=ranked_UK, targets=targets)
    discount_K = 1.0 / np.log2(np.arange(2, ranked_UK.shape[1] + 2))
    ideal_K = np.cumsum(discount_K)
    reciprocal_U = np.where(hit_UK.any(axis=1), 1.0 / (hit_UK.argmax(axis=1) + 1), 0.0)

    metrics: dict[str, np.ndarray] = {}
    for k in ks:
        hit_Uk = hit_UK[:, :k]
        num_hits_U = hit_Uk.sum(axis=1)
        any_hit_U = num_hits_U > 0
        metrics[f"hr@{k}"] = any_hit_U.astype(np.float64)
        metrics[f"ndcg@{k}"] = (hit_Uk @ discount_K[:k]) / ideal_K[np.minimum(k, num_targets_U) - 1]
        metrics[f"recall@{k}"] = num_hits_U / num_targets_U
        metrics[f"mrr@{k}"] = np.where(any_hit_U, reciprocal_U, 0.0)
        metrics[f"precision@{k}"] = num_hits_U / k
    return metrics
