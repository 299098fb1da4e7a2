"""The training command on two ranks: what it writes, and how it goes on after a signal or a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from recsys.bundle import load_bundle
from recsys.parallel.checkpoints import fault, newest_whole
from tests import tiny

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]
FEW_STEPS = ("trainer.max_epochs=9999", "callbacks.checkpoint.every_n_train_steps=5")


def command(name: str, *overrides: str, steps: int = 40) -> list[str]:
    settings = [o for o in tiny.TRAIN_OVERRIDES if not o.startswith("trainer.max_epochs")]
    limit = f"+trainer.max_steps={steps}"
    return ["-m", "recsys", "train", f"name={name}", *settings, *FEW_STEPS, limit, *overrides]


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(tiny.ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_step(folder: Path, process: subprocess.Popen[str], timeout_s: float = 300) -> Path:
    """The first whole checkpoint of the run."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end and process.poll() is None:
        if (found := newest_whole(folder)) is not None:
            return found
        time.sleep(0.2)
    raise AssertionError(f"no checkpoint in {folder}: {process.communicate(timeout=5)[1][-3000:]}")


@pytest.mark.parametrize("strategy", ["ddp", "zero2", "zero3"])
def test_two_ranks_make_one_bundle(tiny_tables: Path, tiny_root: Path, strategy: str) -> None:
    if strategy != "ddp":
        pytest.importorskip("deepspeed")
    tiny.run(*command(strategy, f"trainer={strategy}", "trainer.devices=2"), cwd=tiny_root)
    bundle = load_bundle(tiny_root / "models" / "online_retail" / strategy)
    assert torch.isfinite(bundle.model.item_tower.words.weight).all()
    assert bundle.model.item_tower.words.weight.numel() > 1000, "gathered from both ranks"
    kept = sorted((tiny_root / "outputs" / strategy / "checkpoints").glob("step=*"))
    assert [path.name for path in kept] == ["step=35.ckpt", "step=40.ckpt"]
    assert [fault(path) for path in kept] == [None, None]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_run_with_a_checkpoint(
    tiny_tables: Path, tiny_root: Path, number: signal.Signals
) -> None:
    name = f"asked-{number.name}"
    process = start(tiny_root, *command(name, "trainer=ddp", "trainer.devices=2"))
    wait_for_step(tiny_root / "outputs" / name / "checkpoints", process)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + number.value
    assert "preempted at step" in said
    assert "go on with resume=auto" in said
    assert not (tiny_root / "models" / "online_retail" / name).exists()


def test_a_killed_run_goes_on_with_the_newest_whole_checkpoint(
    tiny_tables: Path, tiny_root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_root / "outputs" / "killed" / "checkpoints"
    process = start(tiny_root, *command("killed", "callbacks.checkpoint.save_top_k=-1"))
    while not (folder / "step=15.ckpt").exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (folder / "step=999.ckpt").write_bytes(b"torn")
    done = tiny.run(*command("killed", "resume=auto", "callbacks.checkpoint.save_top_k=-1"), cwd=tiny_root)
    assert "step=999.ckpt is damaged" in done.stderr
    steps = [
        line.split(",") for line in (tiny_root / "outputs/killed/csv/metrics.csv").read_text().splitlines()
    ]
    assert len(steps) > 1
    assert (tiny_root / "models" / "online_retail" / "killed").exists()
