"""What a rank of a real run holds: bytes of parameters, gradients and optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from recsys.batch import TrainBatch
from recsys.data.datamodule import UserDataModule
from recsys.module import ObjectiveConfig, UserModule
from recsys.nn.item_tower import ItemTowerConfig
from recsys.nn.value_heads import ValueHeadsConfig
from recsys.parallel.planner.layout import Precision, Run
from recsys.parallel.planner.memory import engine_bytes
from recsys.parallel.strategy import ddp, zero
from recsys.training import AdamW
from tests.nn.small_model import NUM_FEATURES, catalogue, small_model
from tests.parallel.training import PLAN, constant
from tests.test_module import all_learned, samples_of

WIDTH = 64


class HeldRun(NamedTuple):
    """`ddp`, `zero1`, `zero2` or `zero3`, and the rows of the id table."""

    strategy: str
    precision: str = "32-true"
    accumulate: int = 1
    capacity: int = 2_000

    def __str__(self) -> str:
        return f"{self.strategy} {self.precision} x{self.accumulate} {self.capacity} rows"

    def case(self) -> dict[str, Any]:
        return {"function": "tests.parallel.planner.held:held_bytes", **self._asdict()}


RUNS = [
    *(HeldRun(strategy) for strategy in ("ddp", "zero1", "zero2", "zero3")),
    *(HeldRun(strategy, accumulate=2) for strategy in ("zero1", "zero2", "zero3")),
    *(HeldRun(strategy, precision="bf16-mixed") for strategy in ("zero1", "zero2")),
    HeldRun("zero2", capacity=8_000),  # the id table reaches into the stretches of both ranks
]


def predicted_bytes(run: HeldRun) -> dict[str, int]:
    """What the planner says of two ranks."""
    model = small_model(**model_settings(run.capacity))
    found = engine_bytes(
        {name: tuple(p.shape) for name, p in model.named_parameters()},
        0 if run.strategy == "ddp" else int(run.strategy[-1]),
        Run(num_gpus=2, gpus_per_node=2, precision=Precision.of(run.precision), accumulate=run.accumulate),
    )
    return dict(zip(("parameters", "gradients", "optimizer"), found, strict=True))


def model_settings(capacity: int) -> dict[str, Any]:
    """A model whose norms and biases are a small part of it, with so many rows in its id table."""
    return {
        "width": WIDTH,
        "score_width": WIDTH,
        "item_tower": ItemTowerConfig(
            capacity=capacity, field_sizes=(4,), num_numeric=1, num_tokens=20, width=WIDTH
        ),
        "value_heads": ValueHeadsConfig(
            width=WIDTH,
            num_heads=2,
            num_features=NUM_FEATURES,
            horizons_days=(7, 30),
            bin_ends_days=(1, 7, 30),
            log_spend=(1.0, 2.0),
        ),
    }


class Weights(UserModule):
    """Bytes held do not depend on what the loss is: here a sum over the weights, for precisions in which the
    model's own does not run."""

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        return torch.stack([p.float().square().sum() for p in self.parameters()]).sum()


class Held(pl.Callback):
    """Counts when the optimizer has its state: in the second step, gradients where they are most."""

    def __init__(self) -> None:
        self.bytes = {"gradients": 0}

    def on_before_backward(self, trainer: pl.Trainer, module: pl.LightningModule, loss: Tensor) -> None:
        if trainer.global_step == 1:
            optimizer = getattr(trainer.optimizers[0], "_optimizer", trainer.optimizers[0])
            self.bytes["gradients"] = storage_bytes(_gradients(module, optimizer))

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step != 1:
            return
        zero_optimizer = getattr(trainer.optimizers[0], "_optimizer", trainer.optimizers[0])
        self.bytes = {
            "parameters": storage_bytes(_parameters(module)),
            "gradients": max(self.bytes["gradients"], storage_bytes(_gradients(module, zero_optimizer))),
            "optimizer": storage_bytes(_optimizer(zero_optimizer)),
        }


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the memory behind the tensors, shared memory once."""
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if t.numel()}
    return sum(held.values())


def _parameters(module: torch.nn.Module) -> Iterable[Tensor]:
    for parameter in module.parameters():
        yield parameter.data  # empty where ZeRO-3 has let it go
        if hasattr(parameter, "ds_tensor"):
            yield parameter.ds_tensor


def _gradients(module: torch.nn.Module, optimizer: Any) -> Iterable[Tensor]:
    for parameter in module.parameters():
        for name in ("grad", "grad_accum"):
            if isinstance(getattr(parameter, name, None), Tensor):
                yield getattr(parameter, name)
    for kept in getattr(optimizer, "averaged_gradients", {}).values():
        yield from kept or ()
    if getattr(optimizer, "grad_partitions_flat_buffer", None) is not None:
        yield optimizer.grad_partitions_flat_buffer


def _optimizer(optimizer: Any) -> Iterable[Tensor]:
    plain = getattr(optimizer, "optimizer", optimizer)
    for state in plain.state.values():
        yield from (value for value in state.values() if isinstance(value, Tensor))
    for name in ("single_partition_of_fp32_groups", "fp32_partitioned_groups_flat"):
        yield from getattr(optimizer, name, ())


def held_bytes(
    *, strategy: str, precision: str, accumulate: int, capacity: int, num_ranks: int = 2
) -> dict[str, int]:
    """Bytes on this rank in the second step of a HeldRun."""
    pl.seed_everything(0, verbose=False)
    kind = UserModule if precision == "32-true" else Weights
    trained = kind(
        model=small_model(**model_settings(capacity)).train(),
        catalogue=all_learned(catalogue(num_items=20)),
        objective=ObjectiveConfig(),
        optimizer=AdamW(lr=0.01),
        scheduler=constant,
    )
    held = Held()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=num_ranks,
        strategy=ddp() if strategy == "ddp" else zero(stage=int(strategy[-1])),
        precision=precision,  # type: ignore[arg-type]
        max_steps=2,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        callbacks=[held],
    )
    trainer.fit(trained, datamodule=UserDataModule(samples=samples_of(), plan=PLAN))
    return held.bytes
