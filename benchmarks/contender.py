"""What `train_throughput` times: a training that goes on step by step, whoever wrote it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.train_workloads import Workload

LOSSES = ("full", "sampled")  # softmax over the catalogue, or over the target and shared negatives
NUM_NEGATIVES = 256
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
PRECISIONS = ("fp32", "bf16")  # bf16: products in bfloat16, weights and optimizer in float32


@dataclass(frozen=True, kw_only=True)
class Training:
    """A model, its optimizer and an endless stream of its batches.

    num_targets: the real next-item targets of a batch, those with at least one event before them; no others
    count, so that all contenders are paid for the same work. `flops_per_target` is of real events, forward
    and backward.
    """

    batches: Iterator[Any]
    step: Callable[[Any], None]
    num_targets: Callable[[Any], int]
    flops_per_target: Callable[[], float]


class Contender(Protocol):
    """A module of benchmarks/ that has this function."""

    def training(self, workload: Workload, *, loss: str, precision: str) -> Training: ...


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Steps made one after another."""

    num_steps: int
    num_targets: int
    elapsed_s: float
    waited_s: float  # for the next batch


def take_turn(training: Training, *, least_s: float, clock: str = "wall") -> Turn:
    """Steps until so much time is over, by a clock of CLOCKS."""
    now = CLOCKS[clock]
    num_steps = num_targets = 0
    waited_s, began = 0.0, now()
    while (asked := now()) - began < least_s:
        batch = next(training.batches)
        waited_s += now() - asked
        training.step(batch)
        num_targets += training.num_targets(batch)
        num_steps += 1
    elapsed_s = now() - began
    return Turn(num_steps=num_steps, num_targets=num_targets, elapsed_s=elapsed_s, waited_s=waited_s)


def resident_mib(kind: str) -> float:
    """Of this process: VmRSS now, VmHWM at the most."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{kind}:")[2].split()[0]) / 1024
