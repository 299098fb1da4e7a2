"""Processes that take turns, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# as recsys/entry.py has it for all commands: threads that spun on in another's turn would take its cores
CALM = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "20000", "PYTHONPATH": str(ROOT)}


def serve(turn: Callable[[], dict[str, Any]]) -> None:
    """Of the process that is asked: an answer in JSON to every line that comes in."""
    for _ in sys.stdin:
        print(json.dumps(turn()), flush=True)


class Process:
    """`python ARGUMENTS`, which serves; leaving the context ends it."""

    def __init__(self, *arguments: str, threads: int) -> None:
        self.arguments = arguments
        self.environment = os.environ | CALM | {"OMP_NUM_THREADS": str(threads)}

    def __enter__(self) -> Process:
        self._process = subprocess.Popen(
            [sys.executable, *self.arguments],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def ask(self) -> dict[str, Any]:
        """One turn; RuntimeError where the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self.arguments)} ended with exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
