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

from recsys.bundle import Bundle, load_bundle
from recsys.parallel.checkpoints import fault, newest_whole, step_of
from tests import tiny, wandb_file

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]
OUTPUTS = Path("outputs", "online_retail")
JUDGED = "validation/ndcg@10/all"
FEW_STEPS = ("trainer.max_epochs=9999", "callbacks.checkpoint.every_n_train_steps=5")


def command(name: str, *overrides: str, steps: int = 40) -> list[str]:
    settings = [o for o in tiny.TRAIN_OVERRIDES if not o.startswith("trainer.max_epochs")]
    limit = f"trainer.max_steps={steps}"
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


def on_two_ranks(root: Path, name: str, strategy: str, *overrides: str) -> Bundle:
    """What the command makes of model=tiny, at its own size, in ten steps."""
    if strategy != "ddp":
        pytest.importorskip("deepspeed")
    sized = [o for o in command(name, "model=tiny", steps=10) if not o.startswith("model.")]
    tiny.run(*sized, f"trainer={strategy}", "trainer.devices=2", *overrides, cwd=root)
    bundle = load_bundle(root / "models" / "online_retail" / name)
    assert (bundle.model.config.width, bundle.model.config.num_blocks) == (64, 2)
    assert all(torch.isfinite(weight).all() for weight in bundle.model.parameters())
    assert bundle.model.item_tower.words.weight.numel() > 1000, "gathered from both ranks"
    kept = sorted((root / OUTPUTS / name / "checkpoints").glob("step-*"), key=step_of)
    assert [path.name for path in kept] == ["step-5.ckpt", "step-10.ckpt"]
    assert [fault(path) for path in kept] == [None, None]
    return bundle


@pytest.mark.parametrize("strategy", ["ddp", "zero1", "zero2", "zero3"])
def test_two_ranks_make_one_bundle(tiny_tables: Path, tiny_root: Path, strategy: str) -> None:
    on_two_ranks(tiny_root, strategy, strategy)


@pytest.mark.parametrize("strategy", ["ddp", "zero2", "zero3"])
def test_bf16_trains_and_is_judged_epoch_by_epoch(tiny_tables: Path, tiny_root: Path, strategy: str) -> None:
    name = f"{strategy}-bf16"
    bundle = on_two_ranks(tiny_root, name, strategy, "trainer.precision=bf16-mixed", "fit_until=validation")
    with (tiny_root / OUTPUTS / name / "csv" / "metrics.csv").open() as file:
        figures = [float(row[JUDGED]) for row in csv.DictReader(file) if row[JUDGED]]
    assert figures
    assert all(0.1 < figure < 1 for figure in figures)
    weight = bundle.model.item_tower.lookup.rows(0, 100)
    assert not torch.equal(weight, weight.bfloat16().float()), "the optimizer's weights are not rounded"


@pytest.mark.parametrize("strategy", ["ddp", "zero2", "zero3"])
def test_the_best_epoch_is_the_bundle(tiny_tables: Path, tiny_root: Path, strategy: str) -> None:
    name = f"{strategy}-best"
    best = {"_target_": "recsys.parallel.best_epoch.BestEpoch", "path": "best.pt", "monitor": JUDGED}
    settings = [f"+callbacks.best.{key}={value}" for key, value in best.items()]
    small = ("data.plan.tokens=2048", "fit_until=validation", "optimizer.lr=0.05")  # epochs that differ
    bundle = on_two_ranks(tiny_root, name, strategy, *settings, *small)
    with (tiny_root / OUTPUTS / name / "csv" / "metrics.csv").open() as file:
        figures = [float(row[JUDGED]) for row in csv.DictReader(file) if row[JUDGED]]
    kept = torch.load(tiny_root / "best.pt", weights_only=True)
    assert len(figures) > 1
    assert kept["score"] == pytest.approx(max(figures))
    weights = bundle.model.state_dict()
    for part in ("item_tower.lookup.weight", "blocks.0.qkv.weight", "user_projection.weight"):
        assert torch.equal(weights[part], kept["model"][part]), part


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

    whole = (output / "csv" / "metrics.csv").read_text()
    (output / "report.html").unlink()  # as if it had been cut off in its last evaluation
    start(tiny_root, *arguments, environment=environment).communicate(timeout=300)
    assert (output / "report.html").exists()
    assert (output / "csv" / "metrics.csv").read_text() == whole, "it has trained nothing"


@pytest.mark.parametrize("moment", ["recsys.data.samples", "recsys.report.page"])
def test_a_signal_outside_of_training_is_heeded(tiny_tables: Path, tiny_root: Path, moment: str) -> None:
    """While it starts, and while it writes its report: as the module is imported that does the work then."""
    program = f"""
import signal, sys
from recsys.commands.train import main

class Asks:
    def find_spec(self, name, *_):
        if name == {moment!r}:
            signal.raise_signal(signal.SIGUSR1)

sys.meta_path.insert(0, Asks())
sys.argv = {["train.py", *command("outside", steps=2)[3:]]!r}
main()
"""
    process = start(tiny_root, "-c", program)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGUSR1, said
    assert "ended by SIGUSR1 outside of training" in said


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
