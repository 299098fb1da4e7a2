"""Two real ranks that see different checkpoints go on from the first one's, or say in one line why not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from recsys.data.datamodule import UserDataModule
from recsys.parallel import resume as resuming
from recsys.parallel.checkpoints import LastCheckpoints, WholeCheckpoints
from recsys.parallel.strategy import ddp, zero
from tests.parallel.ranks import on_ranks
from tests.parallel.training import PLAN
from tests.test_module import module, samples_of

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(600)]


class Steps(pl.Callback):
    """The optimizer's steps that are behind each one that is trained."""

    def __init__(self) -> None:
        self.before: list[int] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.before.append(trainer.global_step)


def trained(folders: list[str], *, strategy: str, steps: int, resume: str | None) -> list[int] | str:
    """The steps that this rank trains, which keeps and seeks checkpoints in its own of the folders."""
    resuming.SEEN_WITHIN_S = 1.0
    folder, counts = Path(folders[int(os.environ["RANK"])]), Steps()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=ddp() if strategy == "ddp" else zero(stage=2),
        max_steps=steps,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        plugins=[WholeCheckpoints()] if strategy == "ddp" else [],
        callbacks=[LastCheckpoints(dirpath=folders[0], every_n_train_steps=2, save_top_k=9), counts],
    )
    resuming.go_on(trainer, resume=resume, folder=folder)
    try:
        trainer.fit(module(), datamodule=UserDataModule(samples=samples_of(), plan=PLAN), weights_only=False)
    except resuming.InputError as error:
        return str(error)
    return counts.before


def unseen(folders: list[str], **settings: Any) -> list[int] | str:
    """As on nodes that do not share the folder."""
    if os.environ["RANK"] == "1":
        Path.exists = lambda self: False  # type: ignore[method-assign]
    return trained(folders, **settings)


@pytest.mark.parametrize("strategy", ["ddp", "zero2"])
def test_all_go_on_from_the_first_ranks(tmp_path: Path, strategy: str) -> None:
    if strategy != "ddp":
        pytest.importorskip("deepspeed")
    first, other = str(tmp_path / "first"), str(tmp_path / "other")
    case = {"function": "tests.parallel.test_choice:trained", "strategy": strategy}
    missing = tmp_path / "first" / "step-99.ckpt"
    cases = [
        case | {"folders": [other, other], "steps": 2, "resume": "auto"},
        case | {"folders": [first, first], "steps": 4, "resume": "auto"},
        case | {"folders": [first, other], "steps": 6, "resume": "auto"},  # the other sees an earlier one
        case | {"folders": [first, str(tmp_path / "none")], "steps": 8, "resume": "auto"},
        case | {"folders": [first, first], "steps": 8, "resume": str(missing)},
        case | {"folders": [first, first], "steps": 9, "resume": "auto"},
        case
        | {"function": "tests.parallel.test_choice:unseen"}
        | {"folders": [first] * 2, "steps": 9}
        | {"resume": "auto"},
    ]
    *found, damaged, last, blind = on_ranks(2, cases, tmp_path / "ranks")
    assert found == [[[0, 1]] * 2, [[0, 1, 2, 3]] * 2, [[4, 5]] * 2, [[6, 7]] * 2]
    assert damaged[0] == damaged[1]
    assert damaged[0].startswith(f"checkpoint {missing} cannot be read")
    assert last == [[8]] * 2
    assert blind[0] == blind[1]
    assert blind[0].startswith(
        f"checkpoint {first}/step-9.ckpt is there for the first rank, not for rank 1 on "
    )
