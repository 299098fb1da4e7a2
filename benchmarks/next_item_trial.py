"""One run of the next-item ablation: `python -m benchmarks.next_item_trial TRIAL FILE OVERRIDES...`

Trains as `train.py` does with those overrides, with one part changed that the framework has no setting for
("none" changes nothing), and writes every user's NDCG@10 on validation to FILE (.npy). Figures and bundle are
of the changed part, so that only this program can read them right.

Legend: N positions, K items drawn, V items, B rows, L events, S score width, Q queries.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.batch import Catalogue, Histories, NextItems, TrainBatch
from recsys.module import UserModule
from recsys.nn.own_items import OwnItems
from recsys.nn.user_model import UserModel, UserStates

CALIBRATION = 0.75  # t of gSASRec (Petrov and Macdonald, RecSys 2023)
SMOOTHING = 0.1
AHEAD, AHEAD_WEIGHT = 10, 0.3  # one of so many events that follow is a second target, and its weight


def use_dot_product() -> None:
    """Scores are plain products, whatever the lengths of the vectors; begin with `model.temperature=1`."""
    UserModel.item_vectors = _plain_item_vectors  # type: ignore[method-assign]
    UserModel.user_vectors = _plain_user_vectors  # type: ignore[method-assign]
    UserModel.position_vectors = _plain_position_vectors  # type: ignore[method-assign]


def _plain_item_vectors(self: UserModel, raw_VD: Tensor) -> Tensor:
    return F.pad(self.item_projection(raw_VD), (0, 1))


def _plain_user_vectors(self: UserModel, states: UserStates, own: OwnItems) -> Tensor:
    weight_QO = self.recall(states.hidden_BLD, own)
    weight_QO = weight_QO / weight_QO.sum(1, keepdim=True).clamp(min=1e-6)
    recalled_QS = torch.einsum("qo,qos->qs", weight_QO, states.item_VS[:, :-1][own.item_QO])
    said_QS = self.user_projection(states.user_BLD[own.row_Q, own.length_Q])
    return F.pad(recalled_QS + said_QS, (0, 1))


def _plain_position_vectors(
    self: UserModel, states: UserStates, histories: Histories, position_N: Tensor
) -> Tensor:
    item_BLS = F.embedding(histories.item_BL, states.item_VS[:, :-1])
    ones_BL = torch.ones_like(item_BLS[..., :1])
    mixed_BLS = self.recall.mix(states.hidden_BLD, self.user_dropout(ones_BL) * item_BLS)
    weight_BL = self.recall.mix(states.hidden_BLD, ones_BL.expand_as(item_BLS))  # the start has some too
    mixed_BLS = mixed_BLS / weight_BL.clamp(min=1e-6)
    said_NS = self.user_projection(self.user_dropout(states.user_BLD.flatten(0, 1)[position_N]))
    return mixed_BLS.flatten(0, 1)[position_N] + said_NS


def use_gbce() -> None:
    """Generalised binary cross-entropy over the drawn negatives (gSASRec), in the softmax's place."""

    def loss(
        self: UserModule, batch: TrainBatch, items: NextItems, catalogue: Catalogue, states: UserStates
    ) -> Tensor:
        assert batch.candidates is not None, "needs drawn negatives: data.samples.num_negatives"
        query_NS, item_VS, bias_V = _scored(self, batch, items, catalogue, states)
        drawn_K, target_N = batch.candidates.drawn_K, items.target_N
        share = len(drawn_K) / (self.model.config.item_tower.capacity - 1)
        power = share * (CALIBRATION * (1 - 1 / share) + 1 / share)
        negative_NK = (query_NS @ item_VS[drawn_K].T).float() + bias_V[drawn_K]
        negative_NK = negative_NK.masked_fill(drawn_K == target_N[:, None], -torch.inf)
        positive_N = (query_NS * F.embedding(target_N, item_VS)).sum(-1).float() + bias_V[target_N]
        return -power * F.logsigmoid(positive_N).sum() + F.softplus(negative_NK).sum()

    UserModule._next_items = loss  # type: ignore[method-assign]


def use_smoothed_labels() -> None:
    """A tenth of each target's weight goes to all items of the catalogue alike."""

    def loss(
        self: UserModule, batch: TrainBatch, items: NextItems, catalogue: Catalogue, states: UserStates
    ) -> Tensor:
        query_NS, item_VS, bias_V = _scored(self, batch, items, catalogue, states)
        total = torch.zeros((), device=query_NS.device)
        for query_CS, target_C in zip(query_NS.split(512), items.target_N.split(512), strict=True):
            logits_CV = (query_CS @ item_VS.T).float() + bias_V
            logits_CV = logits_CV[:, catalogue.in_training_V]
            place_V = torch.cumsum(catalogue.in_training_V, 0) - 1
            part = F.cross_entropy(logits_CV, place_V[target_C], label_smoothing=SMOOTHING, reduction="sum")
            total = total + part
        return total

    UserModule._next_items = loss  # type: ignore[method-assign]


def use_dense_targets() -> None:
    """Beside the next event one of the ten that follow is a target (dense all-action, Pancha et al. 2022)."""
    next_items = UserModule._next_items

    def loss(
        self: UserModule, batch: TrainBatch, items: NextItems, catalogue: Catalogue, states: UserStates
    ) -> Tensor:
        ahead_N = torch.randint(1, AHEAD, items.target_N.shape)
        later_N = (torch.arange(len(ahead_N)) + ahead_N).clamp(max=len(ahead_N) - 1)
        row_N = items.position_N // (batch.histories.item_BL.shape[1] + 1)
        kept = row_N[later_N] == row_N
        later = NextItems(items.position_N[kept], items.target_N[later_N[kept]])
        second = next_items(self, batch, later, catalogue, states)
        return next_items(self, batch, items, catalogue, states) + AHEAD_WEIGHT * second

    UserModule._next_items = loss  # type: ignore[method-assign]


def _scored(
    module: UserModule, batch: TrainBatch, items: NextItems, catalogue: Catalogue, states: UserStates
) -> tuple[Tensor, Tensor, Tensor]:
    model = module.model
    query_NS = model.temperature(model.position_vectors(states, batch.histories, items.position_N))
    return query_NS, states.item_VS[:, :-1], model.item_terms(catalogue)[0]


TRIALS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "dot product": use_dot_product,
    "gbce": use_gbce,
    "label smoothing": use_smoothed_labels,
    "dense targets": use_dense_targets,
}


def ndcg_of_users(overrides: list[str]) -> np.ndarray:
    """NDCG@10 on validation of the users who are judged, of the bundle that such a run has left."""
    from benchmarks.user_ndcg import user_ndcg
    from recsys.data.tables import FeatureTables, resolve_tables

    said = dict(part.split("=", 1) for part in overrides if "=" in part)
    dataset = said["dataset"]
    tables_dir = resolve_tables(features_dir=said["features_dir"], dataset=dataset, version="latest")
    tables = FeatureTables(tables_dir=tables_dir, cache_dir=said["cache_dir"])
    ndcg_U = user_ndcg(Path(said["models_dir"]) / dataset, said["name"], tables, split="validation")
    return ndcg_U[np.isfinite(ndcg_U)]


def main() -> None:
    from recsys.commands.train import main as train

    trial, file, *overrides = sys.argv[1:]
    TRIALS[trial]()
    sys.argv[1:] = overrides
    train()
    np.save(file, ndcg_of_users(overrides))


if __name__ == "__main__":
    main()
