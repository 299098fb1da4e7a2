"""The weights of the own items' gain, refitted to all training queries at once when the rest is trained.

Stochastic steps leave these few weights far from their optimum; with everything else fixed their loss is
smooth and L-BFGS ends in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.batch import Catalogue, ItemQueries, TrainBatch
from recsys.nn.user_model import UserModel
from recsys.objectives.items import candidate_logits

_RIDGE = 1e-4
_MAX_QUERIES, _MAX_PAIRS = 20_000, 2_000_000  # plenty for a dozen weights


@dataclass(frozen=True)
class OwnQueries:
    """Dated queries with own items. Legend: Q queries, P query-item pairs, R features."""

    query_P: Tensor  # int64
    base_P: Tensor  # logit without gain
    feature_PR: Tensor
    is_target_P: Tensor  # bool
    other_Q: Tensor  # log sum exp of all items that are not own
    other_target_Q: Tensor  # the same over targets only; -inf where there is none
    weight_Q: Tensor


def fit_repeats(
    model: UserModel, catalogue: Catalogue | None, batches: Iterable[TrainBatch], *, max_iterations: int = 100
) -> None:
    """Minimise the loss of the dated queries over `model.repeats.gain`; without queries nothing changes."""
    assert model.repeats is not None
    queries = collect(model, catalogue, batches)
    if not len(queries.weight_Q):
        return
    gain = model.repeats.gain
    optimizer = torch.optim.LBFGS(gain.parameters(), max_iter=max_iterations, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = hit_loss(queries, gain(queries.feature_PR)[:, 0]) + _RIDGE * gain.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    optimizer.zero_grad()


def hit_loss(queries: OwnQueries, gain_P: Tensor) -> Tensor:
    """Weighted mean of -log of the probability of all targets together, as in objectives.items."""
    logit_P = queries.base_P + gain_P
    all_Q = torch.logaddexp(queries.other_Q, _logsumexp(logit_P, queries.query_P, len(queries.weight_Q)))
    on_target = queries.is_target_P
    own_Q = _logsumexp(logit_P[on_target], queries.query_P[on_target], len(queries.weight_Q))
    target_Q = torch.logaddexp(queries.other_target_Q, own_Q)
    return ((all_Q - target_Q) * queries.weight_Q).sum() / queries.weight_Q.sum()


@torch.no_grad()
def collect(model: UserModel, catalogue: Catalogue | None, batches: Iterable[TrainBatch]) -> OwnQueries:
    """One pass in evaluation mode, ended by 20,000 queries or two million pairs."""
    was_training = model.training
    model.eval()
    parts, num_queries, num_pairs = [], 0, 0
    for batch in batches:
        part = _of_batch(model, catalogue, batch, first_query=num_queries)
        parts.append(part)
        num_queries, num_pairs = num_queries + len(part.weight_Q), num_pairs + len(part.query_P)
        if num_queries >= _MAX_QUERIES or num_pairs >= _MAX_PAIRS:
            break
    model.train(was_training)
    if not parts:
        none = torch.zeros(0)
        return OwnQueries(none.long(), none, none, none > 0, none, none, none)
    return OwnQueries(*(torch.cat(column) for column in zip(*(vars(p).values() for p in parts), strict=True)))


def _of_batch(
    model: UserModel, whole: Catalogue | None, batch: TrainBatch, *, first_query: int
) -> OwnQueries:
    items, catalogue = batch.items, batch.catalogue(whole)
    assert isinstance(items, ItemQueries), "where order decides nothing is taken again"
    states = model(batch.histories, catalogue)
    scores = model.item_scores(
        states, batch.histories, catalogue, items.row_Q, items.length_Q, items.period_Q
    )
    assert scores.feature_QOR is not None
    own_QV = scores.own.among(len(catalogue.item_V))
    base_QV = candidate_logits(
        scores.base_QV,
        items,
        own_QV=own_QV,
        in_training_V=catalogue.in_training_V,
        candidates=batch.candidates,
    )
    target_QV = torch.zeros_like(own_QV)
    target_QV[items.target_query_P, items.target_item_P] = True
    target_QV &= torch.isfinite(base_QV)
    keep_Q = ~items.discovers_Q & target_QV.any(-1)
    base_QV, target_QV, own_QV = base_QV[keep_Q], target_QV[keep_Q], own_QV[keep_Q]
    item_QO = scores.own.item_QO[keep_Q]
    known_QO = scores.own.known_QO[keep_Q] & torch.isfinite(base_QV.gather(1, item_QO))
    query_P, slot_P = known_QO.nonzero(as_tuple=True)
    item_P = item_QO[query_P, slot_P]
    others_QV = base_QV.masked_fill(own_QV, float("-inf"))
    return OwnQueries(
        query_P=query_P + first_query,
        base_P=base_QV[query_P, item_P],
        feature_PR=scores.feature_QOR[keep_Q][query_P, slot_P],
        is_target_P=target_QV[query_P, item_P],
        other_Q=torch.logsumexp(others_QV, -1),
        other_target_Q=torch.logsumexp(others_QV.masked_fill(~target_QV, float("-inf")), -1),
        weight_Q=items.weight_Q[keep_Q],
    )


def _logsumexp(value_P: Tensor, group_P: Tensor, num_groups: int) -> Tensor:
    """(G,): log sum exp of each group; a very low number for an empty one."""
    lowest = torch.full((num_groups,), -1e4, dtype=value_P.dtype, device=value_P.device)
    top_G = lowest.scatter_reduce(0, group_P, value_P.detach(), "amax")
    sum_G = torch.zeros_like(top_G).index_add(0, group_P, torch.exp(value_P - top_G[group_P]))
    return top_G + torch.log(sum_G.clamp(min=1e-30))
