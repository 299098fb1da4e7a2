"""Slurm warns by SIGUSR1 before it takes the nodes: what a process does then that has nothing to save.

Training, which has, sets a handler of its own while it lasts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType


def leave_when_warned(before_leaving: Callable[[int], None] = lambda code: None) -> None:
    """In a Slurm job, ask for another run of it and wait to be ended; elsewhere, or where Slurm declines, say
    so and leave with code 138. `before_leaving` gets that code.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        if "SLURM_JOB_ID" in os.environ and os.environ.get("SLURM_PROCID", "0") != "0":
            return  # the first task asks for all; it may train already and need this one to save what it has
        signal.signal(number, signal.SIG_IGN)
        before_leaving(128 + number)
        if "SLURM_JOB_ID" not in os.environ:
            _say("ended by SIGUSR1 outside of training: nothing new to save; run it again (with resume=auto)")
            os._exit(128 + number)
        _say("warned by Slurm outside of training: nothing new to save; asking Slurm to run it again")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what Slurm sends next must end the process
        if not requeue():
            os._exit(128 + number)
        while True:  # a task that left by itself would look like one that has finished
            time.sleep(1)

    signal.signal(signal.SIGUSR1, leave)


def requeue() -> bool:
    """Have Slurm run this job again, or say why it does not."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ["SLURM_JOB_ID"]
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    command = ["scontrol", "requeue", f"{job}_{task}" if task else job]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        why = str(error)
    else:
        if told.returncode == 0:
            return True
        why = " ".join((told.stderr or "").split())
    _say(f"Slurm does not run it again ({why}); go on with resume=auto")
    return False


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
