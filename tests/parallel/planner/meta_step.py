"""A training step on the meta device: shapes without memory, and a tensor elsewhere is an error.

It is the module's own loss. Only the own items are given: their number is found by value, which meta lacks.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from unittest import mock

import torch

from recsys.batch import Candidates, Catalogue, CutQueries, Histories, ItemQueries, TrainBatch
from recsys.module import ObjectiveConfig, UserModule
from recsys.nn import user_model
from recsys.nn.own_items import OwnItems
from recsys.nn.user_model import NUM_POPULARITY, ItemScores, UserModel, UserStates
from recsys.nn.value_heads import ValueOutput
from recsys.parallel.planner.sizes import TableSizes, Workload
from recsys.training import AdamW, WarmupCosine


class Shapes(NamedTuple):
    """Of the states, the logits and the spend head."""

    hidden_BLD: torch.Size
    user_BLD: torch.Size
    item_VS: torch.Size
    base_QV: torch.Size
    feature_QOR: torch.Size
    payer_logit_BCH: torch.Size


def meta_step(model: UserModel, *, sizes: TableSizes, work: Workload) -> Shapes:
    """Forward, every loss, backward and an optimizer step; every parameter must get a gradient."""
    with torch.device("meta"):
        batch, own = _batch(model, sizes, work), _own_items(work)
    module = UserModule(
        model=model,
        catalogue=None,
        objective=ObjectiveConfig(),
        optimizer=AdamW(lr=0.001),
        scheduler=WarmupCosine(),
    )
    seen: list[UserStates | ItemScores | ValueOutput] = []

    def kept(method: str) -> Any:
        real = getattr(model, method)

        def run(*arguments: Any) -> Any:
            seen.append(real(*arguments))
            return seen[-1]

        return mock.patch.object(model, method, run)

    given = mock.patch.object(user_model, "own_items", return_value=own)
    with given, kept("forward"), kept("item_scores"), kept("value"):
        parts = module.losses(batch)
    assert set(parts) == {"items", "spend", "retention", "conversion"}
    torch.stack(list(parts.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.shape == parameter.shape, name
        assert parameter.grad.device.type == "meta", name
    torch.optim.AdamW(model.parameters(), foreach=False).step()
    states, scores, output = seen
    assert isinstance(scores, ItemScores)
    assert isinstance(output, ValueOutput)
    tensors = (*states, scores.base_QV, scores.feature_QOR, output.payer_logit_BCH)
    return Shapes(*(tensor.shape for tensor in tensors))  # type: ignore[union-attr]


def _batch(model: UserModel, sizes: TableSizes, work: Workload) -> TrainBatch:
    B, L, Q, V, C = work.rows, work.events, work.queries, work.candidates, work.cuts
    index, yes = {"dtype": torch.long}, {"dtype": torch.bool}
    assert model.value_heads is not None
    heads = model.value_heads.config
    horizons = len(heads.horizons_days)
    return TrainBatch(
        histories=Histories(
            item_BL=torch.empty(B, L, **index),
            event_type_BL=torch.empty(B, L, **index),
            timestamp_BL=torch.empty(B, L, **index),
            value_BL=torch.empty(B, L),
            length_B=torch.empty(B, **index),
            profile_BF=torch.empty(B, len(sizes.profile_sizes), **index),
        ),
        items=ItemQueries(
            row_Q=torch.empty(Q, **index),
            length_Q=torch.empty(Q, **index),
            weight_Q=torch.empty(Q),
            period_Q=torch.empty(Q, **index),
            discovers_Q=torch.empty(Q, **yes),
            target_query_P=torch.empty(work.targets, **index),
            target_item_P=torch.empty(work.targets, **index),
        ),
        cuts=CutQueries(
            mask_BC=torch.empty(B, C, **yes),
            length_BC=torch.empty(B, C, **index),
            features_BCR=torch.empty(B, C, heads.num_features),
            spend_BCH=torch.empty(B, C, horizons),
            observed_BCH=torch.empty(B, C, horizons, **yes),
            next_active_days_BC=torch.empty(B, C),
            observed_days_BC=torch.empty(B, C),
            converted_BC=torch.empty(B, C, **yes),
        ),
        candidates=Candidates(
            catalogue=Catalogue(
                item_V=torch.empty(V, **index),
                categorical_VF=torch.empty(V, len(sizes.field_sizes), **index),
                numeric_VN=torch.empty(V, sizes.num_numeric),
                tokens_VT=torch.empty(V, work.words, **index),
                in_training_V=torch.empty(V, **yes),
                popularity_TVW=torch.empty(work.periods, V, NUM_POPULARITY),
            ),
            log_weight_V=torch.empty(V),
            drawn_K=torch.empty(V - 1, **index),
        ),
        total_weight=1.0,
        total_cuts=1,
        position=(0, 1),
    )


def _own_items(work: Workload) -> OwnItems:
    Q, L, index = work.queries, work.events, {"dtype": torch.long}
    return OwnItems(
        row_Q=torch.empty(Q, **index),
        length_Q=torch.empty(Q, **index),
        item_QO=torch.empty(Q, work.own, **index),
        known_QO=torch.empty(Q, work.own, dtype=torch.bool),
        slot_QL=torch.empty(Q, L, **index),
        age_QL=torch.empty(Q, L),
        counts_QL=torch.empty(Q, L, dtype=torch.bool),
    )
