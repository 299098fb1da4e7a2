"""The weights of the epoch that validated best, for logs small enough to be learned by heart."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping

from recsys.disk import whole_file
from recsys.nn.user_model import UserModel
from recsys.parallel.strategy import whole_weights
from recsys.parallel.tables import ShardedTable
from recsys.schema import InputError


class BestEpoch(EarlyStopping):
    """Keeps them in a file as training goes, and stops nothing. Where no epoch is judged, as in a final fit,
    the last weights count. `path` is overwritten by each better epoch; a run that goes on finds it there.
    """

    def __init__(self, *, path: str, monitor: str) -> None:
        super().__init__(
            monitor,
            mode="max",
            patience=2**31,
            min_delta=0.0,
            strict=False,
            check_finite=False,  # nan: nobody's target was known in training
            check_on_train_epoch_end=True,
        )
        self.path = Path(path)
        self.epoch: int | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        model: Any = pl_module.model
        if isinstance(model.item_tower.lookup, ShardedTable):
            raise InputError("callbacks.best keeps whole models; with a sharded table say ~callbacks.best")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.monitor not in trainer.callback_metrics:
            return
        before = float(self.best_score)
        super().on_train_epoch_end(trainer, pl_module)
        if float(self.best_score) <= before:
            return
        self.epoch = trainer.current_epoch
        model: Any = pl_module.model
        weights = whole_weights(trainer.strategy, model)
        if trainer.is_global_zero:
            content = io.BytesIO()
            torch.save({"score": float(self.best_score), "model": weights}, content)
            with whole_file(self.path) as building:
                building.write_bytes(content.getbuffer())

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.epoch = state_dict["epoch"]

    def restore(self, model: UserModel) -> None:
        """Give the model the kept weights; it stays as it is where no epoch was judged."""
        if self.epoch is None:
            return
        kept: dict[str, Any] = {"score": -math.inf}
        if self.path.is_file():
            kept = torch.load(self.path, weights_only=True)
        if kept["score"] < float(self.best_score):
            print(f"warning: {self.path} is gone or another run's: the last epoch is kept, not the best")
            return
        model.load_state_dict(kept["model"])
        print(f"the weights of epoch {self.epoch} are kept: {self.monitor} {kept['score']:.4f}")
