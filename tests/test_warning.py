"""A process that Slurm warns outside of training, in a job and elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny

# Warns itself while it has nothing to save, as a command that has just begun.
WARNED = """
import signal
from recsys.entry import hydra_command
hydra_command("evaluate")(lambda cfg: signal.raise_signal(signal.SIGUSR1))()
print("went on")
"""
# Slurm ends the job that it runs again.
SCONTROL = """\
#!/bin/sh
echo "$@" > asked
[ -z "$DECLINES" ] || { echo "Requested operation is not supported" >&2; exit 1; }
kill $PPID
"""


def warned(place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    (place / "scontrol").write_text(SCONTROL)
    (place / "scontrol").chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    path = {"PYTHONPATH": str(tiny.ROOT), "PATH": f"{place}:{os.environ['PATH']}"}
    command = [sys.executable, "-c", WARNED, "bundle=any"]
    return subprocess.run(
        command, cwd=place, env=inherited | path | environment, capture_output=True, text=True, timeout=120
    )


def test_outside_of_slurm_it_says_so_and_leaves(tmp_path: Path) -> None:
    done = warned(tmp_path)
    assert done.returncode == 128 + signal.SIGUSR1
    assert done.stdout == ""
    assert done.stderr == (
        "ended by SIGUSR1 outside of training: nothing new to save; run it again (with resume=auto)\n"
    )


@pytest.mark.parametrize(
    ("job", "asked"),
    [
        ({"SLURM_JOB_ID": "7"}, "requeue 7\n"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}, "requeue 7_3\n"),
    ],
)
def test_in_a_job_it_asks_for_another_run_and_waits(tmp_path: Path, job: dict[str, str], asked: str) -> None:
    done = warned(tmp_path, **job)
    assert done.returncode == -signal.SIGTERM, "ended by Slurm, not by itself"
    assert (tmp_path / "asked").read_text() == asked
    assert done.stderr == (
        "warned by Slurm outside of training: nothing new to save; asking Slurm to run it again\n"
    )


def test_other_tasks_leave_it_to_the_first(tmp_path: Path) -> None:
    done = warned(tmp_path, SLURM_JOB_ID="7", SLURM_PROCID="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")
    assert not (tmp_path / "asked").exists()


def test_it_leaves_where_slurm_declines(tmp_path: Path) -> None:
    done = warned(tmp_path, SLURM_JOB_ID="7", DECLINES="yes")
    assert done.returncode == 128 + signal.SIGUSR1
    assert done.stderr.splitlines()[1] == (
        "Slurm does not run it again (Requested operation is not supported); go on with resume=auto"
    )
