"""The epoch that validates best is the one whose weights are kept, after a stop too."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from recsys.parallel.best_epoch import BestEpoch
from recsys.parallel.tables import ShardedTable
from recsys.schema import InputError

MONITOR = "validation/ndcg@10/all"


class Module(pl.LightningModule):
    """Weights move each step; the figure of each epoch is told beforehand."""

    def __init__(self, figures: list[float], lookup: Any = None) -> None:
        super().__init__()
        self.model: Any = torch.nn.Linear(2, 1)
        self.model.item_tower = SimpleNamespace(lookup=lookup)
        self.figures, self.after = figures, []  # type: ignore[var-annotated]

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss: torch.Tensor = self.model(batch).sum()
        return loss

    def on_train_epoch_end(self) -> None:
        self.after.append(copy.deepcopy(self.model.state_dict()))
        if self.figures:
            self.log(MONITOR, self.figures[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: Module, best: BestEpoch, folder: Path, epochs: int, resume: Path | None = None) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[best],
        default_root_dir=folder,
    )
    loader = DataLoader(torch.ones(6, 2), batch_size=2)  # type: ignore[arg-type]
    trainer.fit(module, loader, ckpt_path=None if resume is None else str(resume))
    return trainer


def kept(best: BestEpoch) -> dict[str, torch.Tensor]:
    model = torch.nn.Linear(2, 1)
    best.restore(model)  # type: ignore[arg-type]
    return model.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    best, module = BestEpoch(path=str(tmp_path / "best.pt"), monitor=MONITOR), Module([0.1, 0.3, 0.2, 0.3])
    fit(module, best, tmp_path, 4)
    assert (best.epoch, len(module.after)) == (1, 4), "nothing is stopped; the first of equals counts"
    assert same(kept(best), module.after[1])
    assert not same(kept(best), module.after[3])


def test_an_epoch_without_a_figure_stops_nothing(tmp_path: Path) -> None:
    best = BestEpoch(path=str(tmp_path / "best.pt"), monitor=MONITOR)
    module = Module([math.nan, 0.2, math.nan])
    fit(module, best, tmp_path, 3)
    assert (best.epoch, len(module.after)) == (1, 3)
    assert same(kept(best), module.after[1])


def test_a_run_that_goes_on_still_knows_it(tmp_path: Path) -> None:
    figures, path = [0.1, 0.3, 0.2, 0.2], str(tmp_path / "best.pt")
    first, module = BestEpoch(path=path, monitor=MONITOR), Module(figures)
    fit(module, first, tmp_path, 3).save_checkpoint(tmp_path / "step-9.ckpt")
    second, again = BestEpoch(path=path, monitor=MONITOR), Module(figures)
    fit(again, second, tmp_path, 4, tmp_path / "step-9.ckpt")
    assert (second.epoch, len(again.after)) == (1, 1)
    assert same(kept(second), module.after[1])


def test_where_no_epoch_is_judged_the_last_counts(tmp_path: Path) -> None:
    best = BestEpoch(path=str(tmp_path / "best.pt"), monitor=MONITOR)
    fit(Module([]), best, tmp_path, 2)
    model = torch.nn.Linear(2, 1)
    before = copy.deepcopy(model.state_dict())
    best.restore(model)  # type: ignore[arg-type]
    assert same(model.state_dict(), before)
    assert not (tmp_path / "best.pt").exists()


def test_weights_that_are_gone_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = BestEpoch(path=str(tmp_path / "best.pt"), monitor=MONITOR)
    fit(Module([0.2]), best, tmp_path, 1)
    (tmp_path / "best.pt").unlink()
    kept(best)
    assert "the last epoch is kept" in capsys.readouterr().out


def test_sharded_tables_are_refused(tmp_path: Path) -> None:
    best = BestEpoch(path=str(tmp_path / "best.pt"), monitor=MONITOR)
    table = ShardedTable.__new__(ShardedTable)
    with pytest.raises(InputError, match=r"~callbacks\.best"):
        fit(Module([0.1], lookup=table), best, tmp_path, 1)
