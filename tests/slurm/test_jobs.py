"""The other files of slurm/: tables on Spark's own nodes, arrays of runs, the whole round; tasks and GPUs."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests import tiny
from tests.slurm.box import CPUS, GPUS, SlurmBox, wait_until
from tests.spark_jobs.content import content

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]

# What stands for Python where only the job's shape matters: it says what it sees and does what it is told.
STAND_IN = """\
#!/bin/bash
echo "task $SLURM_PROCID of $SLURM_NTASKS on $SLURMD_NODENAME, GPUs ${CUDA_VISIBLE_DEVICES:-none}, \
${SLURM_CPUS_PER_TASK:-no} CPUs, $*"
exit "${STAND_IN_CODE:-0}"
"""


@pytest.fixture
def stand_in(place: Path) -> dict[str, str]:
    """Environment of jobs that start no Python."""
    program = place / "python"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    return {"PYTHON": str(program)}


def log_of(place: Path, name: str) -> str:
    return (place / f"{name}.out").read_text()


def endings(log: str) -> list[str]:
    return re.findall(r"^== ([A-Z ]+[A-Z])", log, re.MULTILINE)


def wait_for_line(place: Path, name: str) -> None:
    """Until the job has said that it runs."""
    log = place / f"{name}.out"
    wait_until(lambda: log.exists() and "== RUNNING" in log.read_text(), seconds=30)


def test_one_task_a_gpu(box: SlurmBox, place: Path, stand_in: dict[str, str]) -> None:
    """How many there are is said once, to sbatch; each has the CPUs that were asked for."""
    asked = ("--nodes=2", f"--gpus-per-node={GPUS}", "--cpus-per-gpu=4")
    job_id = box.submit(*asked, "slurm/train.sbatch", "seed=1", cwd=place, env=stand_in)
    job = box.wait(job_id, seconds=30)
    assert (job["JobState"], job["NumCPUs"]) == ("COMPLETED", "16"), log_of(place, f"train-{job_id}")
    tasks = sorted(line for line in log_of(place, f"train-{job_id}").splitlines() if line.startswith("task"))
    assert tasks == [
        f"task {rank} of 4 on node{1 + rank // GPUS}, GPUs 0,1, 4 CPUs, "
        "train.py trainer=ddp resume=auto seed=1"
        for rank in range(4)
    ]


@pytest.mark.parametrize("name", ["train", "sweep", "cycle", "recommend"])
def test_cpus_are_asked_for_once(name: str) -> None:
    """sbatch takes --cpus-per-gpu or --cpus-per-task, not both: one in the file would rule out the other."""
    assert "#SBATCH --cpus" not in (tiny.ROOT / "slurm" / f"{name}.sbatch").read_text()


def test_fewer_cpus_than_tasks_are_refused(tmp_path: Path) -> None:
    for name in ("scontrol", "sinfo"):
        (tmp_path / name).symlink_to("/bin/true")
    job = {
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_CPUS_ON_NODE": "1",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "train",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "node1",
    }
    begins = f"set -euo pipefail; source {tiny.ROOT}/slurm/attempt.sh; running; echo went on"
    env = job | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", begins], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "error: 1 CPUs for 4 tasks a node; submit with --cpus-per-gpu=8\n"
    assert endings(done.stdout) == ["RUNNING", "FAILED"]


@pytest.mark.parametrize("name", ["train", "features", "cycle"])
def test_the_exit_code_is_the_jobs(box: SlurmBox, place: Path, stand_in: dict[str, str], name: str) -> None:
    env = stand_in | {"STAND_IN_CODE": "7"}
    job_id = box.submit(f"slurm/{name}.sbatch", "online_retail", cwd=place, env=env)
    job = box.wait(job_id, seconds=30)
    log = log_of(place, f"{name}-{job_id}")
    assert (job["JobState"], job["ExitCode"]) == ("FAILED", "7:0"), log
    assert endings(log)[-1] == "FAILED"
    assert "FAILED with exit code 7" in log


def test_a_pending_job_has_no_log_and_a_cancelled_one_says_so(
    box: SlurmBox, place: Path, stand_in: dict[str, str]
) -> None:
    (place / "python").write_text("#!/bin/bash\nexec sleep 600\n")
    whole = f"--cpus-per-task={CPUS}"
    first = box.submit("--nodes=2", whole, "slurm/train.sbatch", cwd=place, env=stand_in)
    second = box.submit("--nodes=2", whole, "slurm/train.sbatch", cwd=place, env=stand_in)
    wait_for_line(place, f"train-{first}")
    assert box.job(second)["JobState"] == "PENDING"
    assert not (place / f"train-{second}.out").exists()
    time.sleep(1.5)  # it is told in whole seconds
    box.slurm("scancel", first)
    box.wait(first, seconds=30)
    wait_for_line(place, f"train-{second}")
    box.slurm("scancel", second)
    box.wait(second, seconds=30)
    wait_until(
        lambda: endings(log_of(place, f"train-{first}")) == ["RUNNING", "CANCELLED"],
        seconds=20,
        what=lambda: log_of(place, f"train-{first}"),
    )
    waited = re.search(r"pending for (\d+) s", log_of(place, f"train-{second}"))
    assert waited
    assert int(waited[1]) >= 1


def test_an_array_of_runs(box: SlurmBox, place_with_tables: Path) -> None:
    place = place_with_tables
    (place / "rates.txt").write_text("optimizer.lr=0.001 seed=1\n'optimizer.lr=0.004'\n")
    overrides = [*tiny.TRAIN_OVERRIDES]
    array = box.submit("--array=1-3", "slurm/sweep.sbatch", "rates.txt", *overrides, cwd=place)
    for task in ("1", "2", "3"):
        box.wait(f"{array}_{task}", seconds=300)
    states = {task: box.job(f"{array}_{task}")["JobState"] for task in ("1", "2", "3")}
    assert states == {"1": "COMPLETED", "2": "COMPLETED", "3": "FAILED"}
    for number, rate in ((1, "0.001"), (2, "0.004")):
        run = place / "outputs" / "online_retail" / f"rates-{number}"
        assert (run / "report.html").is_file()
        assert f"  lr: {rate}\n" in (run / "csv" / "hparams.yaml").read_text()
    log = log_of(place, f"sweep-{array}_3")
    assert "error: rates.txt has no line 3; submit with --array=1-2" in log
    assert endings(log) == ["RUNNING", "FAILED"], log


def test_tables_on_spark_of_two_nodes(box: SlurmBox, place: Path, tiny_tables: Path) -> None:
    tiny.write_raw(place / "raw.parquet")
    overrides = [o for o in tiny.TABLE_OVERRIDES if not o.startswith("spark.master")]
    arguments = ("slurm/features.sbatch", *overrides, "dataset.events.path=raw.parquet")
    job_id = box.submit("--nodes=2", "--cpus-per-task=1", *arguments, cwd=place, env={"TMPDIR": str(place)})
    job = box.wait(job_id, seconds=500)
    log = log_of(place, f"features-{job_id}")
    assert job["JobState"] == "COMPLETED", log
    version = (place / "features" / "online_retail" / "latest").resolve()
    assert content(version) == content(tiny_tables)
    registered = re.findall(r"Registering worker (\S+)", (place / f"spark-{job_id}-master.log").read_text())
    assert len(set(registered)) == 2, "one whose heartbeat is late registers again"
    assert not (place / f"spark-job-{job_id}").exists()


def test_recommendations_of_two_nodes(
    box: SlurmBox, place_with_tables: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "models").symlink_to(tiny_bundle.parents[1])
    overrides = ("bundle=tiny", "at=test", "chunk_users=20", "output_dir=found")
    job_id = box.submit("--nodes=2", "slurm/recommend.sbatch", *overrides, cwd=place_with_tables)
    job = box.wait(job_id, seconds=300)
    log = log_of(place_with_tables, f"recommend-{job_id}")
    assert job["JobState"] == "COMPLETED", log
    assert log.count("recommendations of") == 1, "two nodes are two ranks of one run"
    assert (place_with_tables / "found" / "top_k.parquet").is_file()
    assert not list(place_with_tables.glob(".parts-*"))


def test_the_whole_round(box: SlurmBox, place: Path, tiny_tables: Path) -> None:
    """With a first attempt's tables: a requeued job does not make them anew."""
    (place / "features").symlink_to(tiny_tables.parents[1])
    few = {"PROMOTE": "rules.min_users=1 rules.max_abs_bias=1e9"}
    arguments = ("--hold", "slurm/cycle.sbatch", "online_retail", *tiny.TRAIN_OVERRIDES)
    job_id = box.submit(*arguments, cwd=place, env=few)
    run = place / "outputs" / "online_retail" / f"cycle-{job_id}"
    stages = run / "stages"
    stages.mkdir(parents=True)
    (stages / "features").touch()
    box.slurm("scontrol", "release", job_id)
    job = box.wait(job_id, seconds=400)
    log = log_of(place, f"cycle-{job_id}")
    assert job["JobState"] == "COMPLETED", log
    assert re.findall(r"STAGE (\w+)", log) == ["train", "promote", "recommend"]
    assert (place / "models" / "online_retail" / "champion").resolve().name == f"cycle-{job_id}"
    assert (run / "recommendations" / "impressions.parquet").is_file()
