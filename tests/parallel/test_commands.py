"""The training command on two ranks: what it writes, and how it goes on after a signal or a kill."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from recsys.bundle import load_bundle
from recsys.parallel.checkpoints import fault, newest_whole, step_of
from tests import tiny, wandb_file

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]
OUTPUTS = Path("outputs", "online_retail")
FEW_STEPS = ("trainer.max_epochs=9999", "callbacks.checkpoint.every_n_train_steps=5")


def command(name: str, *overrides: str, steps: int = 40) -> list[str]:
    settings = [o for o in tiny.TRAIN_OVERRIDES if not o.startswith("trainer.max_epochs")]
    limit = f"+trainer.max_steps={steps}"
    return ["-m", "recsys", "train", f"name={name}", *settings, *FEW_STEPS, limit, *overrides]


def start(root: Path, *arguments: str, environment: Mapping[str, str] = os.environ) -> subprocess.Popen[str]:
    environment = {**environment, "PYTHONPATH": str(tiny.ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_step(
    folder: Path, process: subprocess.Popen[str], timeout_s: float = 300, after: int = 0
) -> Path:
    """A whole checkpoint of a later step than `after`."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end and process.poll() is None:
        if (found := newest_whole(folder)) is not None and (step_of(found) or 0) > after:
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
    kept = sorted((tiny_root / OUTPUTS / strategy / "checkpoints").glob("step-*"))
    assert [path.name for path in kept] == ["step-35.ckpt", "step-40.ckpt"]
    assert [fault(path) for path in kept] == [None, None]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_run_with_a_checkpoint(
    tiny_tables: Path, tiny_root: Path, number: signal.Signals
) -> None:
    name = f"asked-{number.name}"
    process = start(tiny_root, *command(name, "trainer=ddp", "trainer.devices=2"))
    wait_for_step(tiny_root / OUTPUTS / name / "checkpoints", process)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + number.value
    assert "preempted at step" in said
    assert "go on with resume=auto" in said
    assert not (tiny_root / "models" / "online_retail" / name).exists()


def test_a_run_goes_on_as_the_same_one(tiny_tables: Path, tiny_root: Path) -> None:
    """Two attempts end by signals, the third by itself; each is whole, and together they are one run."""
    output = tiny_root / OUTPUTS / "requeued"
    logged = ("trainer.log_every_n_steps=1", "resume=auto", "data.plan.tokens=512")
    arguments = [o for o in command("requeued", *logged, steps=200) if o != "logger.wandb=null"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    numbers, saved = (signal.SIGTERM, signal.SIGUSR1), 0
    for number in numbers:
        process = start(tiny_root, *arguments, environment=environment)
        wait_for_step(output / "checkpoints", process, after=saved)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 128 + number.value, said
        saved = int(said.split("preempted at step ")[1].split(":")[0])
        assert f"step-{saved}.ckpt" in said
        assert len(list((output / "checkpoints").glob("step-*"))) <= 2, "the signal's is one of the last two"
    done = start(tiny_root, *arguments, environment=environment)
    _, said = done.communicate(timeout=300)
    assert done.returncode == 0, said
    kept = sorted(path.name for path in (output / "checkpoints").glob("step-*"))
    assert kept == ["step-195.ckpt", "step-200.ckpt"]

    run_id = (output / "wandb_run_id").read_text().strip()
    parts = [next(part.glob("*.wandb")) for part in sorted((output / "wandb").glob("offline-run-*"))]
    assert [part.name for part in parts] == [f"run-{run_id}.wandb"] * 3
    assert [wandb_file.exit_code(part) for part in parts] == [*(128 + n.value for n in numbers), 0]
    assert {wandb_file.config(part)["trained_on"]["version"] for part in parts} == {tiny_tables.name}
    rows = [row for part in parts for row in wandb_file.history(part)]
    assert [row["trainer/global_step"] for row in rows] == [row["_step"] for row in rows]
    steps = [row["_step"] for row in rows if "train/loss" in row]
    assert steps == sorted(set(steps))
    with (output / "csv" / "metrics.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]] == steps


def test_a_killed_run_goes_on_with_the_newest_whole_checkpoint(
    tiny_tables: Path, tiny_root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_root / OUTPUTS / "killed" / "checkpoints"
    process = start(tiny_root, *command("killed", "callbacks.checkpoint.save_top_k=-1"))
    while not (folder / "step-15.ckpt").exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (folder / "step-999.ckpt").write_bytes(b"torn")
    done = tiny.run(*command("killed", "resume=auto", "callbacks.checkpoint.save_top_k=-1"), cwd=tiny_root)
    assert "step-999.ckpt is damaged" in done.stderr
    steps = [
        line.split(",") for line in (tiny_root / OUTPUTS / "killed/csv/metrics.csv").read_text().splitlines()
    ]
    assert len(steps) > 1
    assert (tiny_root / "models" / "online_retail" / "killed").exists()
