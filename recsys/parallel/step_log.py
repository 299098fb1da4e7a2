"""What the steps of a training run tell: losses, learning rate, gradient norm, speed, memory, time lost."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DeepSpeedStrategy
from torch import Tensor

from recsys.batch import TrainBatch
from recsys.module import UserModule
from recsys.parallel.planner.flops import step_flops
from recsys.parallel.planner.sizes import Workload
from recsys.schema import InputError

_COUNTS = ("rows", "tokens", "queries", "targets", "candidates", "cuts", "periods")


class StepLog(pl.Callback):
    """A row every `trainer.log_every_n_steps` and at the end of an epoch, of the steps since the row before.

    Losses, tokens and targets are of all ranks together; memory (the peak so far) and the share of the time
    that went by waiting for data are of the rank with most of it. The gradient norm is the last step's,
    without sharded tables, before clipping. The time between epochs, with the model judged, is left out.

    peak_flops: of one device in the precision of the run. With it the row has the model FLOPs utilisation
    (Chowdhery et al., PaLM, 2022, appendix B): what the real events cost, as a share of the devices' peak.
    """

    def __init__(self, *, peak_flops: float | None = None) -> None:
        if peak_flops is not None and peak_flops <= 0:
            raise InputError(f"callbacks.steps.peak_flops={peak_flops} must be above 0, or null")
        self.peak_flops = peak_flops

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._learning_rate = 0.0
        self._gradient_norm: Tensor | float = 0.0
        self._begin(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self._learning_rate = trainer.optimizers[0].param_groups[0]["lr"]  # the batch ends with the next one

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """DeepSpeed has the gradients in parts, and keeps the norm itself."""
        if _is_told(trainer, trainer.global_step + 1) and not isinstance(trainer.strategy, DeepSpeedStrategy):
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            self._gradient_norm = torch.nn.utils.get_total_norm(gradients)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: TrainBatch, batch_idx: int
    ) -> None:
        self._add(outputs["parts"], batch, pl_module)
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        self._num_steps += 1
        if _is_told(trainer, trainer.global_step):
            row = self._row(trainer, pl_module)
            for logger in trainer.loggers:
                logger.log_metrics(row, step=trainer.global_step - 1)
                logger.save()
            self._begin(trainer)

    def _begin(self, trainer: pl.Trainer) -> None:
        self._num_steps, self._since, self._waited_s = 0, time.perf_counter(), _waited_s(trainer)
        self._counts: dict[str, Tensor | int] = dict.fromkeys(_COUNTS, 0)
        self._parts: dict[str, Tensor] = {}

    def _add(self, parts: dict[str, Tensor], batch: TrainBatch, module: UserModule) -> None:
        """Nothing here waits for the device."""
        for name, part in parts.items():
            self._parts[name] = self._parts[name] + part if name in self._parts else part
        catalogue = batch.catalogue(module.catalogue)
        found: tuple[Tensor | int, ...] = (
            len(batch.histories.length_B),
            batch.histories.length_B.sum(),
            *batch.items.counts,
            len(catalogue.item_V),
            batch.cuts.mask_BC.sum(),
            len(catalogue.popularity_TVW),
        )
        for name, count in zip(_COUNTS, found, strict=True):
            self._counts[name] = self._counts[name] + count

    def _row(self, trainer: pl.Trainer, module: UserModule) -> dict[str, float]:
        mine = torch.stack([torch.as_tensor(v, device=module.device).float() for v in self._counts.values()])
        parts = torch.stack(list(self._parts.values())) / self._num_steps
        summed = trainer.strategy.reduce(torch.cat([mine, parts.float()]), reduce_op="sum").tolist()
        lost = torch.tensor([_waited_s(trainer) - self._waited_s, _memory_gb(module.device)])
        waited_s, memory_gb = trainer.strategy.reduce(lost.to(module.device), reduce_op="max").tolist()
        elapsed_s = time.perf_counter() - self._since
        counts = dict(zip(_COUNTS, summed, strict=False))
        if isinstance(trainer.strategy, DeepSpeedStrategy):
            self._gradient_norm = trainer.strategy.deepspeed_engine.get_global_grad_norm()
        row = {f"train/{name}": loss for name, loss in zip(self._parts, summed[len(_COUNTS) :], strict=True)}
        row |= {
            "train/learning_rate": float(self._learning_rate),
            "train/gradient_norm": float(self._gradient_norm),
            "speed/tokens_per_s": counts["tokens"] / elapsed_s,
            "speed/targets_per_s": counts["targets"] / elapsed_s,
            "speed/data_wait": waited_s / elapsed_s,
            "speed/memory_gb": memory_gb,
            "epoch": trainer.current_epoch,
        }
        if self.peak_flops is not None:
            num_micro = self._num_steps * trainer.accumulate_grad_batches * trainer.world_size
            per_token = flops_per_token(module, {name: count / num_micro for name, count in counts.items()})
            peak = self.peak_flops * trainer.world_size
            row["speed/mfu"] = per_token * row["speed/tokens_per_s"] / peak
        return row


def flops_per_token(module: UserModule, counts: dict[str, float]) -> float:
    """Forward and backward, by the planner's products, for `counts` of a micro batch without padding: all of
    its rows as long as their mean. Nothing that is computed again counts.
    """
    rows, candidates = max(1, round(counts["rows"])), round(counts["candidates"])
    events = max(1, round(counts["tokens"] / max(counts["rows"], 1)))
    work = Workload(
        rows=rows,
        events=events,
        queries=round(counts["queries"]),
        targets=round(counts["targets"]),
        own=min(events, candidates),
        candidates=candidates,
        cuts=round(counts["cuts"] / rows),
        periods=round(counts["periods"]),
        words=0,  # are looked up, not multiplied
    )
    config = replace(module.model.config, activation_checkpointing=False)
    return step_flops(config, work) / (rows * events)


def _is_told(trainer: pl.Trainer, step: int) -> bool:
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]
    if not trainer.loggers or not every:
        return False
    return bool(step % every == 0 or trainer.is_last_batch or step == trainer.max_steps)


def _waited_s(trainer: pl.Trainer) -> float:
    return float(trainer.train_dataloader.waited_s)  # type: ignore[union-attr]


def _memory_gb(device: torch.device) -> float:
    """Allocated on a GPU, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
