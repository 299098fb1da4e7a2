"""The LightningModule: wiring only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.batch import Catalogue, ItemQueries, NextItems, TrainBatch
from recsys.nn.user_model import UserModel, UserStates
from recsys.objectives.items import candidate_logits, item_loss
from recsys.objectives.next_item import next_item_loss
from recsys.objectives.value import conversion_loss, retention_loss, spend_loss
from recsys.schema import InputError
from recsys.settings import check_range


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights of the loss parts; one with weight 0 is still told and teaches nothing."""

    items: float = 1.0
    spend: float = 0.1
    retention: float = 0.1
    conversion: float = 0.05
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("items", "spend", "retention", "conversion"):
            check_range(f"objective.{name}", getattr(self, name), least=0)
        check_range("objective.label_smoothing", self.label_smoothing, least=0, below=1)


class UserModule(pl.LightningModule):
    """Trains a UserModel. `optimizer` and `scheduler` are factories; the latter gets the number of steps.

    catalogue: None where every batch brings its candidates' content.
    """

    def __init__(
        self,
        *,
        model: UserModel,
        catalogue: Catalogue | None,
        objective: ObjectiveConfig,
        optimizer: Callable[[Iterable[Any]], torch.optim.Optimizer],
        scheduler: Callable[[torch.optim.Optimizer, int], torch.optim.lr_scheduler.LRScheduler],
        evaluate: Callable[[UserModel], dict[str, float]] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self.make_optimizer, self.make_scheduler, self.evaluate_epoch = optimizer, scheduler, evaluate
        self._has_catalogue = catalogue is not None
        for name, tensor in catalogue._asdict().items() if catalogue is not None else ():
            self.register_buffer(f"catalogue_{name}", tensor, persistent=False)

    @property
    def catalogue(self) -> Catalogue | None:
        if not self._has_catalogue:
            return None
        return Catalogue(*(getattr(self, f"catalogue_{name}") for name in Catalogue._fields))

    def losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Loss parts, each the global batch's mean once summed over micro batches and ranks."""
        catalogue = batch.catalogue(self.catalogue)
        states = self.model(batch.histories, catalogue)
        total_weight = max(batch.total_weight, 1e-6)
        if isinstance(batch.items, NextItems):
            parts = {"items": self._next_items(batch, batch.items, catalogue, states) / total_weight}
        else:
            parts = {"items": self._coming_items(batch, batch.items, catalogue, states) / total_weight}
        if self.model.value_heads is not None:
            output = self.model.value(states, batch.cuts.length_BC, batch.cuts.features_BCR)
            total, config = max(batch.total_cuts, 1), self.model.value_heads.config
            if config.has_value:
                parts["spend"] = spend_loss(output, batch.cuts) / total
            parts["retention"] = (
                retention_loss(output, batch.cuts, bin_ends_days=config.bin_ends_days) / total
            )
            parts["conversion"] = conversion_loss(output, batch.cuts) / total
        return parts

    def _coming_items(
        self, batch: TrainBatch, items: ItemQueries, catalogue: Catalogue, states: UserStates
    ) -> Tensor:
        """Summed loss of the items of the coming windows."""
        scores = self.model.item_scores(
            states, batch.histories, catalogue, items.row_Q, items.length_Q, items.period_Q
        )
        logits_QV = candidate_logits(
            self.model.item_logits(scores),
            items,
            own_QV=scores.own.among(len(catalogue.item_V)),
            in_training_V=catalogue.in_training_V,
            candidates=batch.candidates,
        )
        return item_loss(logits_QV, items, label_smoothing=self.objective.label_smoothing)

    def _next_items(
        self, batch: TrainBatch, items: NextItems, catalogue: Catalogue, states: UserStates
    ) -> Tensor:
        """Summed loss of the events that follow, each beside the whole catalogue or the drawn items."""
        if self.objective.label_smoothing:
            raise InputError(
                f"objective.label_smoothing={self.objective.label_smoothing} is for data sets split by time;"
                " set it to 0 where the next event is the target"
            )
        query_NS = self.model.temperature(
            self.model.position_vectors(states, batch.histories, items.position_N)
        )
        item_VS, bias_V = states.item_VS[:, :-1], self.model.item_terms(catalogue)[0]
        positive_N = (query_NS * F.embedding(items.target_N, item_VS)).sum(-1)
        positive_N = positive_N + bias_V[items.target_N]
        column_N = items.target_N
        if batch.candidates is None:
            bias_V = bias_V.masked_fill(~catalogue.in_training_V, float("-inf"))
        else:
            drawn_K = batch.candidates.drawn_K
            item_VS, bias_V = item_VS[drawn_K], (bias_V + batch.candidates.log_weight_V)[drawn_K]
            at_N = torch.searchsorted(drawn_K, column_N).clamp(max=len(drawn_K) - 1)
            column_N = torch.where(drawn_K[at_N] == column_N, at_N, -1)
        return next_item_loss(query_NS, item_VS, bias_V, positive_N=positive_N, target_K_N=column_N)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Any]:
        """`parts` are as `losses` gives them, with the weighted sum as `loss`."""
        with self.trainer.precision_plugin.forward_context():  # DeepSpeed's engine has left any outer one
            parts = self.losses(batch)
        loss = torch.stack([getattr(self.objective, name) * part for name, part in parts.items()]).sum()
        shares = self.trainer.world_size * self.trainer.accumulate_grad_batches
        told = {name: part.detach() for name, part in (parts | {"loss": loss}).items()}
        self.log(
            "train/loss",
            told["loss"] * shares,
            prog_bar=True,
            logger=False,
            on_step=False,
            on_epoch=True,
            sync_dist=True,
            batch_size=1,
        )
        return {"loss": loss * shares, "parts": told}

    def on_train_start(self) -> None:
        self._epoch_began = time.perf_counter()  # an epoch that is gone on with has no start of its own

    def on_train_epoch_start(self) -> None:
        self._epoch_began = time.perf_counter()

    def on_train_epoch_end(self) -> None:
        self.log("train/epoch_seconds", time.perf_counter() - self._epoch_began)
        self.log("train/temperature", self.model.temperature.log.exp())
        if self.evaluate_epoch is not None:
            self.model.eval()
            # tensors of inference mode could not be trained on under ZeRO-3
            with torch.no_grad(), self.trainer.precision_plugin.forward_context():
                figures = self.evaluate_epoch(self.model)
            self.model.train()
            self.log_dict({f"validation/{name}": value for name, value in figures.items()}, prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["accumulate"] = self.trainer.accumulate_grad_batches

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lightning counts micro batches: with another accumulation the same work has other counts."""
        before, now = checkpoint.get("accumulate", 1), self.trainer.accumulate_grad_batches
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counts in (progress["current"], progress["total"]):
            ready = counts["ready"]
            counts.update({name: ready * now // before - (ready - counts[name]) for name in counts})

    def configure_optimizers(self) -> Any:
        decay = [p for p in self.parameters() if p.requires_grad and p.ndim >= 2]
        plain = [p for p in self.parameters() if p.requires_grad and p.ndim < 2]
        optimizer = self.make_optimizer([{"params": decay}, {"params": plain, "weight_decay": 0.0}])
        scheduler = self.make_scheduler(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
