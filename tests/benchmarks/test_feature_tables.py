"""What is measured of a process tree, and the figures made of it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.feature_tables import NOT_MEASURED, Cost, Watched, compare
from benchmarks.spark_event_log import EventLog, SparkStage
from tests import tiny

CHILD = """
import time
held = bytearray(150 * 2**20)
while time.process_time() < 1:
    pass
time.sleep(2)  # several looks long, on a busy machine too
"""


def test_the_processes_that_a_process_starts_count() -> None:
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"
    with subprocess.Popen([sys.executable, "-c", parent]) as process, Watched(process.pid) as seen:
        process.wait()
    assert seen.cost.peak_gib > 0.14
    assert 0.9 <= seen.cost.cpu_s < 5
    assert seen.cost.wall_s > 2.5


def test_start_up_is_taken_off_and_the_floor_is_one() -> None:
    def log(reading_s: float) -> EventLog:
        stage = SparkStage(step="reading", query="0", task_s=[2.0, 2.0, 2.0, 3.0])
        return EventLog(stages=[stage], step_s={"reading": reading_s})

    start, start_floor = (Cost(wall_s=w, cpu_s=w, peak_gib=1.0) for w in (20.0, 5.0))
    job = Cost(wall_s=60.0, cpu_s=100.0, peak_gib=3.0).minus(start)
    floor = Cost(wall_s=15.0, cpu_s=25.0, peak_gib=2.0).minus(start_floor)
    figures = compare(1_000, job, floor, log(14.0), log(9.0))
    assert (figures["multiple"], figures["cpu_multiple"], figures["peak_gib"]) == (4.0, 4.0, 3.0)
    assert (figures["straggling"], figures["multiple_reading"]) == (1.5, 0.5)
    alone = compare(1_000, job, NOT_MEASURED, log(14.0), log(9.0))
    assert alone["job_s"] == 40.0
    assert not [name for name in alone if "floor" in name or "multiple" in name]


@pytest.mark.slow
def test_the_benchmark_ends_with_a_line_of_figures() -> None:
    shown = tiny.run("-m", "benchmarks.feature_tables", "--rows", "10000", "--append", cwd=tiny.ROOT).stdout
    figures = json.loads(shown.splitlines()[-1])
    assert figures["peak_gib_10000"] > 0
    assert {f"{name}_10000" for name in ("job_s", "floor_cpu_s", "straggling", "append_s")} <= figures.keys()
