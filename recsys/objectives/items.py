"""Softmax over the catalogue against all items of the coming window (dense all-action, Pancha et al. 2022).

Legend: Q queries, P query-target pairs, V items.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recsys.batch import ItemQueries


def item_loss(logits_QV: Tensor, queries: ItemQueries, *, label_smoothing: float = 0.0) -> Tensor:
    """Weighted sum over queries of the mean negative log-likelihood of their targets. A scalar.

    The caller divides by the total weight of the global batch.
    """
    logits_QV = logits_QV.float()
    norm_Q = torch.logsumexp(logits_QV, -1)
    count_Q = torch.bincount(queries.target_query_P, minlength=len(norm_Q)).clamp(min=1)
    picked_P = logits_QV[queries.target_query_P, queries.target_item_P]
    mean_Q = torch.zeros_like(norm_Q).index_add(0, queries.target_query_P, picked_P) / count_Q
    if label_smoothing > 0:
        mean_Q = (1 - label_smoothing) * mean_Q + label_smoothing * _finite_mean(logits_QV)
    return ((norm_Q - mean_Q) * queries.weight_Q).sum()


def _finite_mean(logits_QV: Tensor) -> Tensor:
    """(Q,), mean over the items that can be picked: padding and unlearned items are -inf."""
    finite_QV = torch.isfinite(logits_QV)
    return torch.where(finite_QV, logits_QV, 0.0).sum(-1) / finite_QV.sum(-1).clamp(min=1)
