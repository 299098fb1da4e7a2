"""slurm/train.sbatch on real nodes, with what happens to jobs there: preemption, lost nodes, killed ranks."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from recsys.parallel.checkpoints import checkpoints
from tests import tiny
from tests.slurm.box import CPUS, SlurmBox, wait_until

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]

WHOLE_NODES = f"--cpus-per-task={CPUS}"
LONG = ("trainer.max_epochs=10", "callbacks.checkpoint.every_n_train_steps=8")  # eight steps are an epoch


def submit(box: SlurmBox, place: Path, *options: str, overrides: tuple[str, ...] = ()) -> str:
    """Job id of a run named `cluster`."""
    arguments = (*options, "slurm/train.sbatch", "name=cluster", *tiny.TRAIN_OVERRIDES, *overrides)
    return box.submit(*arguments, cwd=place)


def log_of(place: Path, job_id: str) -> str:
    path = place / f"train-{job_id}.out"
    return path.read_text() if path.exists() else ""


def endings(log: str) -> list[str]:
    """The first words of the lines that say what became of each attempt."""
    return re.findall(r"^== ([A-Z ]+[A-Z])", log, re.MULTILINE)


def saved_steps(place: Path) -> list[int]:
    folder = place / "outputs" / "online_retail" / "cluster" / "checkpoints"
    return [step for step, _ in checkpoints(folder)]


def wait_for_checkpoint(place: Path, box: SlurmBox, job_id: str) -> None:
    wait_until(
        lambda: bool(saved_steps(place)) or box.has_ended(job_id),
        seconds=180,
        what=lambda: log_of(place, job_id),
    )
    assert not box.has_ended(job_id), log_of(place, job_id)


def is_trained(place: Path) -> bool:
    bundle = place / "models" / "online_retail" / "cluster"
    return bundle.is_dir() and (place / "outputs" / "online_retail" / "cluster" / "report.html").is_file()


def listens(job_id: str, rank: int) -> bool:
    """Whether the process of a rank is there and has a handler for SIGUSR1."""
    try:
        status = Path(f"/proc/{process_of(job_id, rank)}/status").read_text()
    except (AssertionError, OSError):
        return False
    caught = int(re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)[1], 16)  # type: ignore[index]
    return bool(caught >> (signal.SIGUSR1 - 1) & 1)


def process_of(job_id: str, rank: int) -> int:
    """The process that is a rank of a job."""
    wanted = {f"SLURM_JOB_ID={job_id}".encode(), f"SLURM_PROCID={rank}".encode(), b"SLURM_STEP_ID=0"}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_training = b"train.py" in (folder / "cmdline").read_bytes()
            if is_training and wanted <= set((folder / "environ").read_bytes().split(b"\0")):
                return int(folder.name)
        except OSError:
            continue  # it has ended meanwhile
    raise AssertionError(f"rank {rank} of job {job_id} does not run")


def test_two_nodes_train_one_model(box: SlurmBox, place_with_tables: Path) -> None:
    place = place_with_tables
    job_id = submit(box, place, "--nodes=2")
    job = box.wait(job_id, seconds=300)
    log = log_of(place, job_id)
    assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), log
    assert endings(log) == ["RUNNING", "COMPLETED"]
    assert "on 2 nodes (node[1-2]), 1 tasks a node" in log
    assert "MEMBER: 2/2" in log
    assert is_trained(place)


def test_a_killed_rank_fails_the_job(box: SlurmBox, place_with_tables: Path) -> None:
    place = place_with_tables
    job_id = submit(box, place, "--nodes=2", overrides=LONG)
    wait_for_checkpoint(place, box, job_id)
    process = process_of(job_id, rank=1)
    killed_at = time.monotonic()
    os.kill(process, signal.SIGKILL)
    job = box.wait(job_id, seconds=60)
    log = log_of(place, job_id)
    assert job["JobState"] == "FAILED", log
    assert time.monotonic() - killed_at < 30
    assert endings(log) == ["RUNNING", "FAILED"]
    code = job["ExitCode"].removesuffix(":0")  # srun's is the highest of all tasks
    assert code in ("137", "143")
    assert f"FAILED with exit code {code}" in log
    assert not is_trained(place)


@pytest.mark.parametrize("trainer", ["ddp", "zero2"])
def test_preempted_and_resumed_on_fewer_nodes(box: SlurmBox, place_with_tables: Path, trainer: str) -> None:
    place = place_with_tables
    job_id = submit(box, place, "--nodes=1-2", WHOLE_NODES, overrides=(f"trainer={trainer}", *LONG))
    wait_for_checkpoint(place, box, job_id)
    before = saved_steps(place)
    urgent = box.submit(
        "--partition=urgent", "--output=/dev/null", WHOLE_NODES, "--wrap=sleep 600", cwd=place
    )
    box.wait(urgent, "RUNNING", seconds=60)
    saved = saved_steps(place)[-1]
    assert saved >= before[-1]
    job = box.wait(job_id, seconds=300)
    log = log_of(place, job_id)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1"), log
    assert endings(log) == ["RUNNING", "PREEMPTED", "RUNNING", "COMPLETED"]
    first, second = log.split("== PREEMPTED")
    assert "on 2 nodes" in first
    assert f"step-{saved}.ckpt" in first
    assert "on 1 nodes" in second
    assert is_trained(place)
    assert steps_logged(place)[-1] == 80


def warn(box: SlurmBox, job_id: str) -> None:
    """SIGUSR1 to all tasks, as before a preemption."""
    box.slurm("scancel", "--signal=USR1", job_id)


def test_warned_while_it_starts(box: SlurmBox, place_with_tables: Path) -> None:
    """From when Python listens to when training does; nothing is there to be saved."""
    place = place_with_tables
    job_id = submit(box, place, "--nodes=2")
    wait_until(lambda: all(listens(job_id, rank) for rank in (0, 1)), seconds=60)
    warn(box, job_id)
    job = box.wait(job_id, seconds=300)
    log = log_of(place, job_id)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1"), log
    assert endings(log) == ["RUNNING", "PREEMPTED", "RUNNING", "COMPLETED"]
    assert log.count("nothing new to save; asking Slurm to run it again") == 1
    first, _ = log.split("== PREEMPTED")
    assert "MEMBER: 2/2" not in first, "the ranks had not met"
    assert is_trained(place)


def test_warned_in_the_last_evaluation(box: SlurmBox, place_with_tables: Path) -> None:
    """Training is over and its last step saved: the next attempt evaluates at once."""
    place = place_with_tables
    job_id = submit(box, place, "--nodes=2")
    bundle = place / "models" / "online_retail" / "cluster"
    wait_until(lambda: bundle.is_dir() or box.has_ended(job_id), seconds=180)
    assert not is_trained(place), "the report is not there yet"
    saved = saved_steps(place)
    warn(box, job_id)
    job = box.wait(job_id, seconds=300)
    log = log_of(place, job_id)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1"), log
    assert endings(log) == ["RUNNING", "PREEMPTED", "RUNNING", "COMPLETED"]
    assert log.count("nothing new to save; asking Slurm to run it again") == 1
    assert saved_steps(place) == saved, "nothing was trained again"
    assert is_trained(place)


def test_out_of_time(box: SlurmBox, place_with_tables: Path) -> None:
    """Slurm warns before the time limit; the run saves and is queued again."""
    place = place_with_tables
    endless = ("trainer.max_epochs=1000", *LONG[1:])
    job_id = submit(box, place, "--time=00:02:00", "--signal=SIGUSR1@30", overrides=endless)
    wait_until(
        lambda: "RUNNING" in endings(log_of(place, job_id))[1:] or box.has_ended(job_id),
        seconds=330,  # Slurm may warn a minute early, and keeps time by the minute
        what=lambda: log_of(place, job_id),
    )
    log = log_of(place, job_id)
    box.slurm("scancel", job_id)
    assert endings(log)[:3] == ["RUNNING", "PREEMPTED", "RUNNING"], log
    assert "PREEMPTED or out of time; requeued" in log
    reached = re.search(r"preempted at step (\d+): saved \S+; asking Slurm to run it again", log)
    assert reached, log
    assert int(reached[1]) > 0


def test_a_lost_node(box: SlurmBox, place_with_tables: Path) -> None:
    place = place_with_tables
    job_id = submit(box, place, "--nodes=1-2", WHOLE_NODES, overrides=LONG)
    wait_for_checkpoint(place, box, job_id)
    box.kill("node2")
    try:
        box.slurm("scontrol", "update", "NodeName=node2", "State=DOWN", "Reason=lost")
        job = box.wait(job_id, seconds=300)
    finally:
        box.start_node("node2")
    log = log_of(place, job_id)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1"), log
    assert endings(log) == ["RUNNING", "NODE LOST", "RUNNING", "COMPLETED"]
    assert "NODE LOST: node2" in log
    assert "on 1 nodes (node1)" in log.split("== NODE LOST")[1]
    assert is_trained(place)


def steps_logged(place: Path) -> list[int]:
    lines = (place / "outputs" / "online_retail" / "cluster" / "csv" / "metrics.csv").read_text().splitlines()
    at = lines[0].split(",").index("step")
    return [int(line.split(",")[at]) + 1 for line in lines[1:]]
