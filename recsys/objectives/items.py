"""Softmax over the catalogue against the items of the coming window.

A query at a date asks for a hit: -log of the probability of all its targets together, so that what counts is
the top of the list. A query within an order teaches what goes with what: its own items are neither candidates
nor targets, and all targets count alike (dense all-action, Pancha et al. 2022).

Legend: Q queries, P query-target pairs, V items of the catalogue at hand.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recsys.batch import Candidates, ItemQueries

_MIN_SHARE = 1e-30


def candidate_logits(
    logits_QV: Tensor,
    queries: ItemQueries,
    *,
    own_QV: Tensor,
    in_training_V: Tensor,
    candidates: Candidates | None,
) -> Tensor:
    """(Q, V) logits of what each query chooses among, -inf for the rest.

    An item nobody could have taken yet is no negative: it would only learn to be pushed down. Of a catalogue
    looked at in part, a query knows its own items and targets for sure; the others stand for those not drawn,
    each with 1 / its probability of being drawn, which makes the sum of exp(logits) unbiased (Horvitz and
    Thompson 1952; the correction by log q of Bengio and Senecal 2008 for draws without repetition).
    """
    if candidates is not None:
        target_P = queries.target_query_P * own_QV.shape[1] + queries.target_item_P
        sure_QV = own_QV.flatten().index_fill(0, target_P, 1).view_as(own_QV)
        logits_QV = logits_QV + torch.where(sure_QV, 0.0, candidates.log_weight_V)
    closed_QV = own_QV & queries.discovers_Q[:, None] | ~in_training_V
    return logits_QV.masked_fill(closed_QV, float("-inf"))


def item_loss(logits_QV: Tensor, queries: ItemQueries, *, label_smoothing: float = 0.0) -> Tensor:
    """Weighted sum over queries of the negative log-likelihood. A scalar.

    Targets with a logit of -inf do not count, queries left with none neither. The caller divides by the total
    weight of the global batch.
    """
    logits_QV = logits_QV.float()
    norm_Q = torch.logsumexp(logits_QV, -1)
    norm_Q = torch.where(torch.isfinite(norm_Q), norm_Q, 0.0)  # of a query with nothing to choose from
    query_P, picked_P = queries.target_query_P, logits_QV[queries.target_query_P, queries.target_item_P]
    possible_P = torch.isfinite(picked_P)  # a mask, not a selection: its size would have to reach the host
    picked_P = torch.where(possible_P, picked_P, 0.0)
    zeros_Q = torch.zeros_like(norm_Q)
    count_Q = zeros_Q.index_add(0, query_P, possible_P.to(norm_Q.dtype))
    mean_Q = zeros_Q.index_add(0, query_P, picked_P) / count_Q.clamp(min=1)
    share_P = torch.where(possible_P, torch.exp(picked_P - norm_Q[query_P]), 0.0)
    share_Q = zeros_Q.index_add(0, query_P, share_P)
    any_Q = norm_Q + torch.log(share_Q.clamp(min=_MIN_SHARE))
    target_Q = torch.where(queries.discovers_Q, mean_Q, any_Q)
    if label_smoothing > 0:
        target_Q = (1 - label_smoothing) * target_Q + label_smoothing * _finite_mean(logits_QV)
    return ((norm_Q - target_Q) * queries.weight_Q * (count_Q > 0)).sum()


def _finite_mean(logits_QV: Tensor) -> Tensor:
    """(Q,), mean over the items that can be picked: padding and unlearned items are -inf."""
    finite_QV = torch.isfinite(logits_QV)
    return torch.where(finite_QV, logits_QV, 0.0).sum(-1) / finite_QV.sum(-1).clamp(min=1)
