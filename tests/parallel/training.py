"""A small training run as a rank lives it; what the tests of this folder compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger

from recsys.batch import TrainBatch
from recsys.data.datamodule import UserDataModule
from recsys.data.plan import PlanConfig
from recsys.parallel.checkpoints import WholeCheckpoints
from recsys.parallel.randomness import RandomStates
from recsys.parallel.step_log import StepLog
from recsys.parallel.strategy import ddp, whole_weights, zero
from recsys.parallel.tables import tables_of
from recsys.training import AdamW
from tests.parallel.sharded import with_sharded_tables
from tests.test_module import StopAt, module, samples_of

PLAN = PlanConfig(tokens=64, multiple=8, block=4, pool_blocks=4, pool_batches=1)


SGD_LR = (
    0.01  # at five times this the losses leap, and 20 steps make a difference of rounding ten times as large
)


class SGD:
    """Adam hides errors of scale."""

    def __call__(self, groups: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=SGD_LR)


def constant(optimizer: torch.optim.Optimizer, num_steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


class Losses(pl.Callback):
    """Loss of each optimizer step, summed over micro batches."""

    def __init__(self, accumulate: int) -> None:
        self.accumulate, self.micro = accumulate, list[float]()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *_: Any) -> None:
        self.micro.append(float(outputs["loss"]))

    @property
    def steps(self) -> list[float]:
        return torch.tensor(self.micro).view(-1, self.accumulate).sum(1).tolist()


def samples_in(batch: TrainBatch) -> list[int]:
    """The value of each row's first event, which `many_users` has once: it names the sample."""
    return batch.histories.value_BL[:, 0].int().tolist()


class Order(pl.Callback):
    """The samples of each micro batch that this rank was dealt."""

    def __init__(self) -> None:
        self.micro = list[list[int]]()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: TrainBatch, *_: Any
    ) -> None:
        self.micro.append(samples_in(batch))


class Kinds(pl.Callback):
    """The types of floating-point numbers in the module's buffers and in its batches."""

    def __init__(self) -> None:
        self.seen = dict[str, list[str]]()

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: TrainBatch, *_: Any) -> None:
        parts = [*batch.histories, *(batch.histories.words or ()), *batch.items, *batch.cuts]
        fields = [part for part in parts if torch.is_tensor(part)]
        for name, tensors in (("buffers", list(module.buffers())), ("batch", fields)):
            self.seen[name] = sorted({str(t.dtype) for t in tensors if t.is_floating_point()})


@contextmanager
def autocast_seen_as_on_gpus() -> Iterator[None]:
    """DeepSpeed's engine turns autocast off where torch, not asked of a device, says that there is any: on
    GPUs it then means theirs, and here the processor's.
    """
    asked_of = torch.is_autocast_enabled
    with patch.object(torch, "is_autocast_enabled", lambda device_type="cpu": asked_of(device_type)):
        yield


class Rows(Logger):
    """Keeps what a run tells of its steps."""

    name, version = "rows", ""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if "speed/tokens_per_s" in metrics:
            self.rows.append({**metrics, "step": step})

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass


def told(**settings: Any) -> list[dict[str, float]]:
    """The rows of a training run."""
    logger = Rows()
    train(more=[StepLog(peak_flops=1e12)], logger=logger, **settings)
    return logger.rows


def train(
    *,
    strategy: str,
    steps: int = 20,
    accumulate: int = 1,
    clip: float | None = None,
    optimizer: str = "sgd",
    lr: float = 0.01,
    table_optimizer: str | None = None,
    num_ranks: int = 2,
    dropout: float = 0.0,
    seed: int = 0,
    save: str | None = None,
    save_at: int = 0,
    resume: str | None = None,
    activation_checkpointing: bool = False,
    precision: str = "32-true",
    more: Sequence[pl.Callback] = (),
    logger: Any = False,
    **options: Any,
) -> dict[str, Any]:
    """Loss of each step, this rank's share of the global batch's; the samples of each micro batch; and the
    weights at the end; and the types of what is not learned.

    `table_optimizer`: the item tables are sharded and stepped by it. `seed` is that of dropout alone. With
    `save`, the run ends at step `save_at` with a checkpoint of that name. `lr` is AdamW's; `options` are
    those of `zero`.
    """
    pl.seed_everything(seed, verbose=False)  # small_model has its own
    trained = module(dropout=dropout)
    if table_optimizer:
        trained.model = with_sharded_tables(trained.model, optimizer=table_optimizer, lr=0.01)
        trained.model.train(dropout > 0)
    trained.model.config = replace(trained.model.config, activation_checkpointing=activation_checkpointing)
    trained.make_optimizer = SGD() if optimizer == "sgd" else AdamW(lr=lr)
    trained.make_scheduler = constant
    losses, order, kinds = Losses(accumulate), Order(), Kinds()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=num_ranks,
        strategy=ddp() if strategy == "ddp" else zero(stage=int(strategy[-1]), **options),
        precision=precision,  # type: ignore[arg-type]
        max_steps=steps,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=clip,
        logger=logger,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in more),
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        plugins=[WholeCheckpoints()] if strategy == "ddp" else [],
        callbacks=[
            *more,
            losses,
            order,
            kinds,
            RandomStates(),
            *([StopAt(step=save_at, path=Path(save))] if save else []),
        ],
    )
    samples = samples_of(num_negatives=5) if table_optimizer else samples_of()
    with autocast_seen_as_on_gpus():
        trainer.fit(trained, datamodule=UserDataModule(samples=samples, plan=PLAN), ckpt_path=resume)
    weights = whole_weights(trainer.strategy, trained.model)
    weights |= {name: table.rows(0, table.num_rows) for name, table in tables_of(trained.model).items()}
    return {"losses": losses.steps, "samples": order.micro, "weights": weights, "kinds": kinds.seen}
