"""A run that is asked to go: what it keeps, and in which order it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from recsys.data.datamodule import UserDataModule
from recsys.parallel.checkpoints import LastCheckpoints, WholeCheckpoints, newest_whole
from recsys.parallel.preemption import Preemption
from recsys.schema import InputError
from tests import tiny, wandb_file
from tests.parallel.training import PLAN
from tests.test_module import module, samples_of


class AskedAt(pl.Callback):
    """Sends this process a signal after so many steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step - 1:
            signal.raise_signal(signal.SIGUSR1)


@pytest.fixture
def leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process does not end, and keeps its handlers."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class AskedAfterTheLastStep(pl.Callback):
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        signal.raise_signal(signal.SIGUSR1)


class Count(pl.Callback):
    """Steps that are trained."""

    steps = 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps += 1


def fit(
    folder: Path,
    *more: pl.Callback,
    steps: int = -1,
    epochs: int | None = None,
    asked_at: int | None = None,
    resume: Path | None = None,
    keeps: bool = True,
) -> None:
    keepers = [LastCheckpoints(dirpath=str(folder), every_n_train_steps=2, save_top_k=2)] if keeps else []
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        plugins=[WholeCheckpoints()],
        enable_checkpointing=keeps,
        callbacks=[*keepers, Preemption(), *([AskedAt(asked_at)] if asked_at else []), *more],
    )
    data = UserDataModule(samples=samples_of(), plan=PLAN)
    trainer.fit(module(), datamodule=data, ckpt_path=resume, weights_only=False)


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("leaves")
def test_the_last_two_are_kept_through_signals_and_resumes(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        fit(tmp_path, steps=20, asked_at=5)
    assert left.value.code == 128 + signal.SIGUSR1
    assert kept(tmp_path) == ["step-4.ckpt", "step-5.ckpt"]
    (tmp_path / "step-99.ckpt").write_bytes(b"torn")
    with pytest.raises(SystemExit):
        fit(tmp_path, steps=20, asked_at=7, resume=newest_whole(tmp_path))
    assert kept(tmp_path) == ["step-6.ckpt", "step-7.ckpt", "step-99.ckpt"], "later ones are not its own"
    fit(tmp_path, steps=12, resume=newest_whole(tmp_path))
    assert kept(tmp_path) == ["step-10.ckpt", "step-12.ckpt", "step-99.ckpt"]


@pytest.mark.usefixtures("leaves")
def test_a_run_that_keeps_nothing_ends_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = Count()
    with pytest.raises(SystemExit) as left:
        fit(tmp_path, count, steps=20, asked_at=5, keeps=False)
    assert (left.value.code, count.steps) == (128 + signal.SIGUSR1, 4), "Count comes after what leaves"
    assert kept(tmp_path) == []
    said = capsys.readouterr().err
    assert "preempted at step 5: nothing was saved, for want of callbacks.checkpoint; run it anew" in said


def test_what_killed_attempts_left_is_swept(tmp_path: Path) -> None:
    """A run that is killed often would fill the disk."""
    (tmp_path / ".building-step-2.ckpt-77").write_bytes(b"half")
    for left in (".building-step-3.ckpt", ".universal-step-3.ckpt"):
        (tmp_path / left / "part").mkdir(parents=True)
    for step in (2, 3):
        (tmp_path / f".tables-step-{step}.ckpt" / f"step-{step}").mkdir(parents=True)
    fit(tmp_path, steps=4)
    assert kept(tmp_path) == [".tables-step-2.ckpt", "step-2.ckpt", "step-4.ckpt"]


@pytest.mark.usefixtures("leaves")
def test_slurm_may_end_the_process_as_soon_as_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def scontrol(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        seen.append((command, signal.getsignal(signal.SIGTERM), kept(tmp_path)))
        return subprocess.CompletedProcess(command, returncode=1)

    monkeypatch.setattr(subprocess, "run", scontrol)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(SystemExit):
        fit(tmp_path, steps=20, asked_at=3)
    assert seen == [(["scontrol", "requeue", "7"], signal.SIG_DFL, ["step-2.ckpt", "step-3.ckpt"])]


def test_after_training_the_handlers_are_those_from_before(tmp_path: Path) -> None:
    """Lightning's would wait for ranks that have left."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    fit(tmp_path, steps=2)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before


@pytest.mark.usefixtures("leaves")
def test_a_signal_after_the_last_step_is_heeded(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        fit(tmp_path, AskedAfterTheLastStep(), steps=3)
    assert left.value.code == 128 + signal.SIGUSR1
    assert kept(tmp_path) == ["step-2.ckpt", "step-3.ckpt"]


@pytest.mark.parametrize("limit", [{"epochs": 2}, {"steps": 7}])
def test_what_is_trained_to_the_end_is_not_trained_again(tmp_path: Path, limit: dict[str, int]) -> None:
    """A run that is cut off while it is evaluated at last."""
    first, second, third = Count(), Count(), Count()
    fit(tmp_path, first, **limit)
    last = f"step-{first.steps}.ckpt"
    assert last in kept(tmp_path)
    written = (tmp_path / last).stat().st_mtime_ns
    fit(tmp_path, second, resume=newest_whole(tmp_path), **limit)
    assert second.steps == 0
    assert (tmp_path / last).stat().st_mtime_ns == written
    fit(tmp_path, third, resume=newest_whole(tmp_path), **{name: 2 * count for name, count in limit.items()})
    assert third.steps == first.steps, "it can still be trained for longer"


def test_beside_training_sigterm_leaves_a_whole_offline_run(tmp_path: Path) -> None:
    program = """
import signal
from recsys.parallel.preemption import leave_whole
from recsys.tracking import wandb_logger
leave_whole()
wandb_logger(project="p", name="n", save_dir="out").log_metrics({"loss": 1.0}, 4)
signal.raise_signal(signal.SIGTERM)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment["PYTHONPATH"] = str(tiny.ROOT)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, timeout=120)
    assert done.returncode == 143
    (record,) = (tmp_path / "out" / "wandb").glob("offline-run-*/*.wandb")
    assert wandb_file.exit_code(record) == 143
    (row,) = wandb_file.history(record)
    assert (row["loss"], row["trainer/global_step"], row["_step"]) == (1.0, 4, 4)


def test_nothing_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="save_top_k=0"):
        LastCheckpoints(dirpath=str(tmp_path), every_n_train_steps=1, save_top_k=0)
