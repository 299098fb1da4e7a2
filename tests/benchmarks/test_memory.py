"""The program at toy size, and the watch that ends a process which holds too much."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks import memory
from benchmarks.turns import ROOT


def test_the_program_ends_with_its_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--items", "12000", "--catalogues", "400", "--rows", "1", "--loss-rows", "1", "--users", "30"]
    monkeypatch.setattr(sys, "argv", ["memory", *asked, "--steps", "2", "--threads", "1"])
    memory.main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["large_over_limit"] == figures["loss_400_over_limit"] == 0
    assert figures["large_imported_mib"] < figures["large_model_mib"] <= figures["large_peak_mib"]
    assert figures["loss_400_whole_mib"] > 0


def test_a_process_over_its_limit_says_so_and_ends() -> None:
    code = "from benchmarks.memory import Peak\nwith Peak(1.0):\n    while True: pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"over_limit": 1}
