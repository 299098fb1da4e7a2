"""A run goes on with the settings it was begun with; what differs is named before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from recsys.parallel.checkpoints import seal
from recsys.parallel.record import RunRecord, check_same_run, held_settings, record_of
from recsys.parallel.strategy import ddp, kind_of, zero
from recsys.schema import InputError

SETTINGS = {
    "trainer": "zero2",
    "version": "v1",
    "model.width": 16,
    "model.table": "sharded",
    "optimizer.lr": 0.002,
    "optimizer.betas": (0.9, 0.98),
    "warm_start": None,
}


def written(folder: Path, *, is_folder: bool) -> Path:
    path, kept = folder / "step-4.ckpt", dict[str, Any]()
    RunRecord({"settings": SETTINGS}).on_save_checkpoint(pl.Trainer(), pl.LightningModule(), kept)
    if is_folder:
        path.mkdir()
        seal(path, num_ranks=2, run=kept["run"])
    else:
        torch.save(kept, path)
    return path


@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trainer": "ddp"}, r"with trainer=zero2, and here is trainer=ddp; .*warm_start="),
        ({"optimizer.lr": 0.5}, r"optimizer\.lr=0\.002, and here is optimizer\.lr=0\.5; go on with the old"),
        ({"optimizer.betas": [0.9, 0.999]}, r"betas=\[0\.9,0\.98\], and here is .*=\[0\.9,0\.999\]"),
        ({"version": "v2"}, r"version=v1, and here is version=v2; .*from these weights: warm_start=.*ckpt$"),
        ({"model.width": 32}, r"model\.width=16, and here is .*=32; .* a new run under another name$"),
        ({"model.table": "replicated"}, r"model\.table=sharded, and here is model\.table=replicated"),
        ({"warm_start": "a"}, r"warm_start=null, and here is warm_start=a"),
    ],
)
def test_a_changed_setting_is_named(tmp_path: Path, is_folder: bool, change: Any, said: str) -> None:
    path = written(tmp_path, is_folder=is_folder)
    with pytest.raises(InputError, match=said) as caught:
        check_same_run(path, SETTINGS | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("is_folder", [False, True])
def test_the_same_settings_go_on(tmp_path: Path, is_folder: bool) -> None:
    path = written(tmp_path, is_folder=is_folder)
    check_same_run(path, SETTINGS)
    check_same_run(path, SETTINGS | {"model.table": "torchrec"})


def test_a_checkpoint_that_train_did_not_write(tmp_path: Path) -> None:
    torch.save({"step": 1}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match=r"other\.ckpt has no record of its run; name one that `train`"):
        record_of(tmp_path / "other.ckpt")


def test_what_is_held_has_the_names_of_the_command_line() -> None:
    groups = {"objective": {"items": 1.0}, "optimizer": {"_target_": "A", "lr": 0.1}, "scheduler": {}}
    settings = groups | {
        **{"model": {"width": 16, "activation_checkpointing": True}, "fit_until": "test", "warm_start": None},
        "data": {"samples": {"max_length": 8}, "plan": {"tokens": 64}, "num_workers": 2},
    }
    trainer = pl.Trainer(accelerator="cpu", gradient_clip_val=1.0, max_epochs=3, accumulate_grad_batches=2)
    tables: Any = SimpleNamespace(version="v1", fingerprint="abc")
    assert held_settings(settings, trainer, tables) == {
        **{"trainer": "cpu", "trainer.precision": "32-true", "version": "v1", "table_fingerprint": "abc"},
        **{"trainer.gradient_clip_val": 1.0, "trainer.gradient_clip_algorithm": None},
        **{"fit_until": "test", "warm_start": None, "model.width": 16, "objective.items": 1.0},
        **{"optimizer._target_": "A", "optimizer.lr": 0.1},
        **{"data.samples.max_length": 8, "data.plan.tokens": 64},
    }


def test_the_kind_of_a_strategy_is_its_name_in_the_settings() -> None:
    pytest.importorskip("deepspeed")
    assert [kind_of(zero(stage=stage)) for stage in (1, 2, 3)] == ["zero1", "zero2", "zero3"]
    assert kind_of(ddp()) == "ddp"
