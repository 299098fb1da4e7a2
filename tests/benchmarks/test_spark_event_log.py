"""A log written by hand: two steps, one of them with a task that keeps the others waiting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.spark_event_log import QUERY_START, read_event_log


def query(number: int, step: str, at_s: float) -> dict[str, Any]:
    return {"Event": QUERY_START, "executionId": number, "description": step, "time": 1000 * at_s}


def spark_job(number: int, step: str, stages: list[int]) -> dict[str, Any]:
    properties = {"spark.job.description": step, "spark.sql.execution.id": str(number)}
    return {"Event": "SparkListenerJobStart", "Stage IDs": stages, "Properties": properties}


def task(stage: int, elapsed_s: float, cpu_s: float) -> dict[str, Any]:
    about = {"Launch Time": 5000, "Finish Time": 5000 + 1000 * elapsed_s}
    measured = {
        "Executor CPU Time": 1e9 * cpu_s,
        "Disk Bytes Spilled": 3,
        "Shuffle Write Metrics": {"Shuffle Bytes Written": 7},
    }
    return {
        "Event": "SparkListenerTaskEnd",
        "Stage ID": stage,
        "Task Info": about,
        "Task Metrics": measured,
    }


def test_steps_queries_and_the_task_that_others_wait_for(tmp_path: Path) -> None:
    events = [
        query(0, "reading", 10.0),
        spark_job(0, "reading", [0]),
        *[task(0, 0.1, 0.1), task(0, 0.1, 0.1), task(0, 0.1, 0.1), task(0, 0.9, 0.9)],  # too short to count
        query(1, "features", 14.0),
        spark_job(1, "features", [1, 2]),
        *[task(1, 2.0, 1.0), task(1, 2.0, 1.5), task(1, 2.0, 1.0), task(1, 5.0, 4.0)],
        task(2, 9.0, 2.0),  # the only one of its stage
        {"Event": "SparkListenerApplicationEnd", "Timestamp": 20_000},
    ]
    file = tmp_path / "log"
    file.write_text("\n".join(map(json.dumps, events)))
    log = read_event_log(file)
    assert log.step_s == {"reading": 4.0, "features": 6.0}
    assert log.query_cpu_s == pytest.approx({("reading", "0"): 1.2, ("features", "1"): 9.5})
    assert log.straggling == 2.5
    assert [stage.shuffled_bytes for stage in log.stages] == [28, 28, 7]
    assert [stage.spilled_bytes for stage in log.stages] == [12, 12, 3]
