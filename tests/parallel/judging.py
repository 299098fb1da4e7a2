"""Quick figures as a rank finds them; what test_judging compares."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from recsys.data.cut_features import CutScaler, raw_cut_features
from recsys.data.datamodule import UserDataModule
from recsys.evaluation import quick
from recsys.nn.user_model import UserModel
from recsys.parallel.strategy import ddp, whole_model, zero
from recsys.parallel.tables import tables_of
from tests.data.shop import many_users
from tests.nn.small_model import catalogue
from tests.parallel.sharded import with_sharded_tables
from tests.parallel.training import PLAN
from tests.test_module import module, samples_of


def figures(model: UserModel, *, num_users: int = 31) -> dict[str, float]:
    shop = many_users(num_users=num_users)
    return quick.quick_figures(
        model=model,
        catalogue=catalogue(num_items=20),
        tables=shop,  # type: ignore[arg-type]
        split="validation",
        scaler=CutScaler.fit(lambda: [raw_cut_features(shop.at_cut(split="validation").activity)]),
    )


def alone(model: UserModel, **arguments: Any) -> dict[str, float]:
    """As one rank would find them, with no word to the others."""
    with (
        mock.patch.object(quick, "rank_and_world", return_value=(0, 1)),
        mock.patch.object(quick, "of_all_ranks", lambda mine: [mine]),
    ):
        return figures(model, **arguments)


def untrained(*, table: str, num_users: int) -> dict[str, Any]:
    """`steps`: how many users this rank scored in each."""
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    torch.manual_seed(0)
    plain = module().model
    model = with_sharded_tables(plain, optimizer="sgd", lr=0.1) if table == "sharded" else plain
    for dealt in tables_of(model).values():
        dealt.allocate(torch.device("cpu"))
    steps: list[int] = []
    watch = model.register_forward_hook(lambda _, inputs, __: steps.append(len(inputs[0].length_B)))
    shared = figures(model, num_users=num_users)
    watch.remove()
    return {"shared": shared, "alone": alone(plain, num_users=num_users), "steps": steps}


def trained(*, strategy: str, table: str = "replicated") -> dict[str, Any]:
    """Judged at the end of two epochs; what the last said, and what one rank says of the whole model."""
    pl.seed_everything(0, verbose=False)
    said: list[dict[str, float]] = []

    def judge(model: UserModel) -> dict[str, float]:
        said.append(figures(model))
        return said[-1]

    taught = module(evaluate=judge)
    if table == "sharded":
        taught.model = with_sharded_tables(taught.model, optimizer="sgd", lr=0.1)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=ddp() if strategy == "ddp" else zero(stage=int(strategy[-1])),
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(taught, datamodule=UserDataModule(samples=samples_of(), plan=PLAN))
    whole = whole_model(trainer.strategy, taught.model)
    return {"shared": said, "alone": None if table == "sharded" else alone(whole)}
