"""W&B: offline without a key, and then complete without a network. Lightning: without its adverts."""

from __future__ import annotations

import csv
import logging
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from pytorch_lightning.utilities.rank_zero import rank_zero_info, rank_zero_only

from recsys.entry import conf_dir
from recsys.tracking import CsvLogger, quiet_lightning, wandb_logger
from tests import tiny, wandb_file


@pytest.mark.parametrize(
    ("environment", "offline"),
    [
        ({}, True),
        ({"WANDB_API_KEY": ""}, True),
        ({"WANDB_API_KEY": "0" * 40}, False),
        ({"WANDB_API_KEY": "0" * 40, "WANDB_MODE": "offline"}, True),
        ({"WANDB_MODE": "online"}, False),
        ({"WANDB_MODE": "disabled"}, False),  # W&B reads this one itself; offline would overrule it
    ],
)
def test_a_key_means_online_unless_the_mode_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], offline: bool
) -> None:
    """The decision alone: no run is begun, so nothing is contacted."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    logger = wandb_logger(project="recsys", name="demo", save_dir=str(tmp_path / "out"))
    assert logger._offline is offline
    assert logger._experiment is None
    assert (logger.save_dir, logger.name) == (str(tmp_path / "out"), "recsys")
    assert "anonymous" not in logger._wandb_init


def test_it_is_on_by_default_and_null_turns_it_off() -> None:
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        on, off = compose("train"), compose("train", overrides=["logger.wandb=null"])
    assert on.logger.wandb._target_ == "recsys.tracking.wandb_logger"
    assert off.logger.wandb is None
    assert off.logger.csv == on.logger.csv


def test_lightning_keeps_its_warnings_and_loses_its_adverts(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    quiet_lightning()
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    for name in ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero"):
        # other libraries' logging set-up switches off the loggers that are there
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)
        monkeypatch.setattr(logging.getLogger(name), "level", logging.INFO)
    kept = ["GPU available: True (cuda), used: True", "Initializing distributed: GLOBAL_RANK: 0, MEMBER: 1/2"]
    left_out = [
        "💡 Tip: For seamless cloud logging and experiment tracking, try installing [litlogger]",
        "GPU available: False, used: False",
        "TPU available: False, using: 0 TPU cores",
    ]
    # Lightning's loggers do not hand their records on to pytest's.
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("pytorch_lightning")
    logger.addHandler(handler)
    try:
        for line in (*kept, *left_out):
            rank_zero_info(line)
    finally:
        logger.removeHandler(handler)
    assert said == kept
    warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated, use ...", FutureWarning, stacklevel=1)
    warnings.warn("something else is deprecated", FutureWarning, stacklevel=1)
    assert [str(warning.message) for warning in recwarn] == ["something else is deprecated"]


@pytest.mark.parametrize(("tasks", "of_use"), [(None, False), ("1", False), ("2", True)])
def test_the_hint_at_srun_is_for_jobs_of_several_tasks(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder, tasks: str | None, of_use: bool
) -> None:
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    if tasks is not None:
        monkeypatch.setenv("SLURM_NTASKS", tasks)
    with warnings.catch_warnings():
        quiet_lightning()
        warnings.warn(
            "The `srun` command is available on your system but is not used. HINT: ...", stacklevel=1
        )
    assert bool(recwarn) == of_use


def test_a_run_that_goes_on_keeps_its_id_and_a_fresh_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)

    def run_id(folder: str, resume: str | None) -> str | None:
        made = wandb_logger(project="p", name="n", save_dir=str(tmp_path / folder), resume=resume)
        return made.version  # type: ignore[return-value]

    first = run_id("a", "auto")
    assert first
    assert run_id("a", "auto") == run_id("a", "checkpoints/step-5.ckpt") == first
    assert run_id("b", "auto") != first
    fresh = run_id("a", None)
    assert fresh != first
    assert run_id("a", "auto") == fresh
    monkeypatch.setenv("WANDB_RUN_ID", "agents")
    assert run_id("a", "auto") is None, "W&B reads it itself"


def csv_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "csv" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def write_rows(folder: Path, resume: str | None, rows: dict[int, dict[str, float]]) -> None:
    logger = CsvLogger(save_dir=str(folder), resume=resume)
    logger.log_hyperparams({"seed": 0})
    for step, row in rows.items():
        logger.log_metrics(row, step)
        logger.save()


def test_csv_rows_stay_and_no_step_is_there_twice(tmp_path: Path) -> None:
    write_rows(tmp_path, None, {4: {"loss": 1.0}, 9: {"loss": 2.0}, 14: {"loss": 3.0}})
    with (tmp_path / "csv" / "metrics.csv").open("a") as file:
        file.write("5.0,1")  # killed in the middle of the line of step 19
    write_rows(tmp_path, "auto", {9: {"loss": 20.0}, 14: {"loss": 30.0, "ndcg": 0.5}})
    assert csv_rows(tmp_path) == [
        {"loss": "1.0", "ndcg": "", "step": "4"},
        {"loss": "20.0", "ndcg": "", "step": "9"},
        {"loss": "30.0", "ndcg": "0.5", "step": "14"},
    ]
    CsvLogger(save_dir=str(tmp_path), resume="auto").log_hyperparams({})
    assert len(csv_rows(tmp_path)) == 3, "a run that is killed before its first row"


def test_a_fresh_run_has_no_earlier_rows(tmp_path: Path) -> None:
    write_rows(tmp_path, "auto", {4: {"loss": 1.0}})
    write_rows(tmp_path, None, {0: {"loss": 5.0}})
    assert [row["step"] for row in csv_rows(tmp_path)] == ["0"]


def without_network() -> list[str]:
    """A command that runs another one with no network at all; empty where this user may not do that."""
    if (
        shutil.which("unshare")
        and subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0
    ):
        return ["unshare", "-rn"]
    return []


def train(root: Path, *overrides: str) -> Any:
    environment = {k: v for k, v in os.environ.items() if k not in ("WANDB_API_KEY", "WANDB_MODE")}
    given = [override for override in tiny.TRAIN_OVERRIDES if override != "logger.wandb=null"]
    done = subprocess.run(
        [*without_network(), sys.executable, "-m", "recsys", "train", *given, *overrides],
        cwd=root,
        env=environment | {"PYTHONPATH": str(tiny.ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_a_run_without_key_and_network_is_recorded_and_says_nothing_of_it(
    tiny_tables: Path, tiny_root: Path
) -> None:
    done = train(tiny_root, "name=tracked", "trainer.log_every_n_steps=1")
    (run,) = (tiny_root / "outputs" / "online_retail" / "tracked" / "wandb").glob("offline-run-*")
    (record,) = run.glob("*.wandb")
    told = wandb_file.config(record)
    assert told["trained_on"]["version"] == tiny_tables.name
    assert (told["model"]["width"], told["model"]["num_blocks"], told["fit_until"]) == (16, 1, "test")
    commit = subprocess.run(["git", "-C", tiny.ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    if commit.returncode == 0:
        assert told["trained_on"]["git_commit"] == commit.stdout.strip()
    assert wandb_file.history(record)
    assert wandb_file.exit_code(record) == 0
    for noise in ("wandb", "Tip", "litlogger", "TPU", "deprecated", "Loading `train_dataloader`"):
        assert noise not in done.stderr + done.stdout


@pytest.mark.slow
def test_null_leaves_no_trace_of_it(tiny_tables: Path, tiny_root: Path) -> None:
    train(tiny_root, "name=untracked", "logger.wandb=null")
    output = tiny_root / "outputs" / "online_retail" / "untracked"
    assert (output / "csv" / "hparams.yaml").is_file()
    assert not list(tiny_root.glob("**/untracked/**/*wandb*"))
