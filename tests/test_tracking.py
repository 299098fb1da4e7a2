"""W&B: offline without a key, and then complete without a network. Lightning: without its adverts."""

from __future__ import annotations

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
from recsys.tracking import quiet_lightning, wandb_logger
from tests import tiny


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
    content = record.read_bytes()
    commit = subprocess.run(["git", "-C", tiny.ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    expected = [f'"version":"{tiny_tables.name}"', '"num_blocks":1', '"width":16', '"fit_until":"test"']
    if commit.returncode == 0:
        expected.append(f'"git_commit":"{commit.stdout.strip()}"')
    for entry in expected:
        assert entry.encode() in content, entry
    for noise in ("wandb", "Tip", "litlogger", "TPU", "deprecated", "Loading `train_dataloader`"):
        assert noise not in done.stderr + done.stdout


@pytest.mark.slow
def test_null_leaves_no_trace_of_it(tiny_tables: Path, tiny_root: Path) -> None:
    train(tiny_root, "name=untracked", "logger.wandb=null")
    output = tiny_root / "outputs" / "online_retail" / "untracked"
    assert (output / "csv" / "hparams.yaml").is_file()
    assert not list(tiny_root.glob("**/untracked/**/*wandb*"))
