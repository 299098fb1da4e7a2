"""Spark's event log (JSON lines) -> how long the job's steps took, whether a task kept others waiting."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

DESCRIPTION, QUERY = "spark.job.description", "spark.sql.execution.id"
QUERY_START = "org.apache.spark.sql.execution.ui.SparkListenerSQLExecutionStart"
LEAST_TASKS, LEAST_TASK_S = 4, 3.0  # fewer tell nothing of stragglers, and of shorter ones the first warm up


@dataclass(kw_only=True)
class SparkStage:
    """Seconds of each of its tasks, of the cores in all, and bytes that went through files."""

    step: str
    query: str
    task_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    shuffled_bytes: int = 0
    spilled_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class EventLog:
    """`step_s`: wall time from a step's first query to the next step's; `query_cpu_s`: by step and query."""

    stages: list[SparkStage]
    step_s: dict[str, float]

    @property
    def query_cpu_s(self) -> dict[tuple[str, str], float]:
        total: dict[tuple[str, str], float] = defaultdict(float)
        for stage in self.stages:
            total[stage.step, stage.query] += stage.cpu_s
        return total

    @property
    def straggling(self) -> float:
        """Longest task over the median one, in the Spark stage where that is worst; 1 where none counts."""
        counted = [
            stage.task_s
            for stage in self.stages
            if len(stage.task_s) >= LEAST_TASKS and max(stage.task_s) >= LEAST_TASK_S
        ]
        return max((max(task_s) / median(task_s) for task_s in counted), default=1.0)


def read_event_log(file: Path) -> EventLog:
    """An uncompressed log in one file (spark.eventLog.compress and .rolling.enabled false)."""
    stages: dict[int, SparkStage] = {}
    began: dict[str, float] = {}
    now_s = 0.0
    with file.open() as lines:
        for event in map(json.loads, lines):
            kind = event["Event"]
            now_s = max(now_s, event.get("Timestamp", 0) / 1000)
            if kind == QUERY_START:
                began.setdefault(event["description"], event["time"] / 1000)
            elif kind == "SparkListenerJobStart":
                step, query = (event["Properties"].get(name, "") for name in (DESCRIPTION, QUERY))
                for stage in event["Stage IDs"]:
                    stages.setdefault(stage, SparkStage(step=step, query=query))
            elif kind == "SparkListenerTaskEnd":
                _add_task(stages[event["Stage ID"]], event)
    steps = [name for name in began if any(stage.step == name for stage in stages.values())]
    ends = [*(began[name] for name in steps[1:]), now_s]
    step_s = {name: end - began[name] for name, end in zip(steps, ends, strict=True)}
    return EventLog(stages=[stage for stage in stages.values() if stage.task_s], step_s=step_s)


def _add_task(stage: SparkStage, event: dict[str, Any]) -> None:
    about, measured = event["Task Info"], event.get("Task Metrics") or {}
    stage.task_s.append((about["Finish Time"] - about["Launch Time"]) / 1000)
    stage.cpu_s += measured.get("Executor CPU Time", 0) / 1e9
    stage.shuffled_bytes += measured.get("Shuffle Write Metrics", {}).get("Shuffle Bytes Written", 0)
    stage.spilled_bytes += measured.get("Disk Bytes Spilled", 0)
