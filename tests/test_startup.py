"""How long a command takes to say what it can do: processor time, which a busy machine does not stretch."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "pytorch_lightning", "pyspark", "deepspeed", "wandb"}


def spent_s(*arguments: str) -> tuple[float, str]:
    """Processor time of `python ARGUMENTS` once its bytecode is there, and what it said of its imports."""
    command = [sys.executable, "-X", "importtime", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr


@pytest.mark.parametrize(
    ("arguments", "most_s"), [(("train.py", "--help"), 2.0), (("-c", "import recsys"), 0.3)]
)
def test_a_command_is_there_at_once(arguments: tuple[str, ...], most_s: float) -> None:
    took_s, imports = spent_s(*arguments)
    assert took_s < most_s
    loaded = {line.rpartition("|")[2].strip() for line in imports.splitlines()}
    assert not HEAVY & loaded
