"""A step of the dense tower on the meta device: shapes without memory, and a tensor elsewhere is an error.

What the loss looks up by value (own items by sorting, targets by finiteness) has no shape on meta, so the own
items are given and the loss is a sum.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recsys.batch import Catalogue, Histories
from recsys.nn.own_items import OwnItems
from recsys.nn.user_model import NUM_POPULARITY, UserModel
from recsys.parallel.planner.sizes import TableSizes, Workload


class Shapes(NamedTuple):
    """Of the states, the user vectors, the cosines and the spend head."""

    hidden_BLD: torch.Size
    user_BLD: torch.Size
    item_VS: torch.Size
    query_QS: torch.Size
    cosine_QV: torch.Size
    payer_logit_BCH: torch.Size


def meta_step(model: UserModel, *, sizes: TableSizes, work: Workload) -> Shapes:
    """Forward, backward and an optimizer step; every parameter on the way must get a gradient."""
    B, L, Q, V = work.rows, work.events, work.queries, work.candidates
    with torch.device("meta"):
        index = {"dtype": torch.long}
        histories = Histories(
            item_BL=torch.empty(B, L, **index),
            event_type_BL=torch.empty(B, L, **index),
            timestamp_BL=torch.empty(B, L, **index),
            value_BL=torch.empty(B, L),
            length_B=torch.empty(B, **index),
            profile_BF=torch.empty(B, len(sizes.profile_sizes), **index),
        )
        catalogue = Catalogue(
            item_V=torch.empty(V, **index),
            categorical_VF=torch.empty(V, len(sizes.field_sizes), **index),
            numeric_VN=torch.empty(V, sizes.num_numeric),
            tokens_VT=torch.empty(V, work.words, **index),
            in_training_V=torch.empty(V, dtype=torch.bool),
            popularity_TVW=torch.empty(work.periods, V, NUM_POPULARITY),
        )
        own = OwnItems(
            row_Q=torch.empty(Q, **index),
            length_Q=torch.empty(Q, **index),
            item_QO=torch.empty(Q, work.own, **index),
            known_QO=torch.empty(Q, work.own, dtype=torch.bool),
            slot_QL=torch.empty(Q, L, **index),
            age_QL=torch.empty(Q, L),
        )
        assert model.value_heads is not None
        length_BC = torch.empty(B, work.cuts, **index)
        features_BCR = torch.empty(B, work.cuts, model.value_heads.config.num_features)
    states = model(histories, catalogue)
    query_QS = model.user_vectors(states, own)
    cosine_QV = model.temperature(query_QS @ states.item_VS.T)
    output = model.value(states, length_BC, features_BCR)
    losses: list[Tensor] = [cosine_QV.sum(), *(part.sum() for part in output)]
    torch.stack(losses).sum().backward()
    for name, parameter in model.named_parameters():
        if name.split(".")[0] not in ("item_bias", "popularity", "repeats"):  # terms beside the cosine
            assert parameter.grad is not None, name
            assert parameter.grad.shape == parameter.shape, name
            assert parameter.grad.device.type == "meta", name
    torch.optim.AdamW(model.parameters(), foreach=False).step()
    return Shapes(*(t.shape for t in (*states, query_QS, cosine_QV, output.payer_logit_BCH)))
