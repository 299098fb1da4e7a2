"""Training with sharded tables as a rank lives it, and its replicated twin; what test_tables compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from recsys.data.datamodule import UserDataModule
from recsys.module import UserModule
from recsys.parallel.strategy import ddp, zero
from recsys.parallel.tables import ShardedTable
from recsys.parallel.tables.optimizers import ROW_OPTIMIZERS
from recsys.parallel.tables.torchrec import TorchRecTable
from recsys.schema import InputError
from tests.parallel.sharded import with_sharded_tables
from tests.parallel.training import PLAN, SGD, SGD_LR, Losses, constant
from tests.test_module import StopAt, module, samples_of


def clip_each_by_its_own_norm(trained: UserModule, max_norm: float) -> None:
    """What sharded tables do, for the replicated twin."""
    tables = [trained.model.item_tower.lookup.weight, trained.model.item_bias.weight]  # type: ignore[attr-defined]
    rest = [p for p in trained.parameters() if all(p is not table for table in tables)]
    for group in ([tables[0]], [tables[1]], rest):
        torch.nn.utils.clip_grad_norm_(group, max_norm)


def train(
    *,
    table: str,
    strategy: str,
    steps: int = 12,
    accumulate: int = 1,
    clip: float | None = None,
    precision: str = "32-true",
    optimizer: str = "sgd",
    num_ranks: int = 2,
    save: str | None = None,
    save_at: int = 0,
    resume: str | None = None,
) -> dict[str, Any]:
    """Loss of each step (this rank's share), both tables (on the first rank), and the bytes held here."""
    pl.seed_everything(0, verbose=False)
    trained = module()
    trained.make_optimizer, trained.make_scheduler = SGD(), constant
    if table != "replicated":
        kind = TorchRecTable if table == "torchrec" else ShardedTable
        trained.model = with_sharded_tables(trained.model, optimizer=optimizer, lr=SGD_LR, lookup=kind)
    elif clip:
        trained.configure_gradient_clipping = (  # type: ignore[method-assign]
            lambda *_, **__: clip_each_by_its_own_norm(trained, clip)
        )
    losses = Losses(accumulate)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=num_ranks,
        strategy=ddp() if strategy == "ddp" else zero(stage=int(strategy[-1])),
        precision=precision,  # type: ignore[arg-type]
        max_steps=steps,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=clip,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        callbacks=[losses, *([StopAt(step=save_at, path=Path(save))] if save else [])],
    )
    data = UserDataModule(samples=samples_of(num_negatives=5), plan=PLAN)
    trainer.fit(trained, datamodule=data, ckpt_path=resume)
    tables = (trained.model.item_tower.lookup, trained.model.item_bias)
    return {
        "losses": losses.steps,
        "lookup": tables[0].rows(0, 25),
        "bias": tables[1].rows(0, 25),
        "held": [len(t.weight_ND) for t in tables if isinstance(t, ShardedTable)],
    }


def clipped_by_value() -> str:
    """What is said where a table would be clipped otherwise than its twin."""
    trained = module()
    trained.model = with_sharded_tables(trained.model, optimizer="sgd", lr=0.1)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=ddp(),
        logger=False,
        enable_progress_bar=False,
        gradient_clip_val=1.0,
        gradient_clip_algorithm="value",
    )
    try:
        trainer.fit(trained, datamodule=UserDataModule(samples=samples_of(), plan=PLAN))
    except InputError as error:
        return str(error)
    return ""


def refused_by_torchrec(**changes: Any) -> str:
    """What is said where TorchRec's update within backward would mean something else."""
    trained = module()
    trained.model = with_sharded_tables(trained.model, optimizer="sgd", lr=0.1, lookup=TorchRecTable)
    trainer = pl.Trainer(
        accelerator="cpu", devices=2, strategy=ddp(), logger=False, enable_progress_bar=False, **changes
    )
    try:
        trainer.fit(trained, datamodule=UserDataModule(samples=samples_of(), plan=PLAN))
    except InputError as error:
        return str(error)
    return ""


def alone(*, num_rows: int = 1001, optimizer: str, steps: int = 5) -> dict[str, Any]:
    """A table and the gradients of seeded lookups, different ones on each rank; no trainer."""
    made = ShardedTable(
        num_rows=num_rows, width=3, std=0.5, seed=7, optimizer=ROW_OPTIMIZERS[optimizer](lr=0.1)
    )
    made.allocate(torch.device("cpu"))
    start = made.rows(0, num_rows)
    for step in range(steps):
        shares = torch.arange(40).tensor_split(dist.get_world_size())
        index = torch.randint(num_rows, (40,), generator=torch.Generator().manual_seed(step))
        aim = torch.randn(40, 3, generator=torch.Generator().manual_seed(100 + step))
        mine = shares[dist.get_rank()]
        error = (made(index[mine]) - aim[mine]).square().sum()
        (error * dist.get_world_size()).backward()  # type: ignore[no-untyped-call]
        made.step()
    return {"start": start, "end": made.rows(0, num_rows), "held": len(made.weight_ND)}
