"""What ranks wrote down of a run that was cut off many times, and the history of updates that survived."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from recsys.batch import TrainBatch
from recsys.data.plan import BatchPlan
from recsys.data.samples import TrainingSamples
from tests.parallel.training import PLAN, samples_in

Entry = dict[str, Any]


class Ledger(pl.Callback):
    """Appends a line at once for every step of this rank, and before and after a checkpoint is written or
    read; a kill loses none. Must come before all that save. Steps last at least `step_s`.
    """

    def __init__(self, path: Path, *, attempt: int, step_s: float = 0.0) -> None:
        self.attempt, self.step_s = attempt, step_s
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for name in ("save_checkpoint", "load_checkpoint"):
            setattr(trainer.strategy, name, self._noted(trainer, name, getattr(trainer.strategy, name)))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._note(trainer, "began")

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        time.sleep(self.step_s)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: TrainBatch, *_: Any
    ) -> None:
        told = {"epoch": batch.position[0], "samples": samples_in(batch), "loss": float(outputs["loss"])}
        self._note(trainer, "step", **told)

    def _noted(self, trainer: pl.Trainer, name: str, does: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            self._note(trainer, name)
            done = does(*args, **kwargs)
            self._note(trainer, f"{name} done")
            return done

        return noted

    def _note(self, trainer: pl.Trainer, what: str, **told: Any) -> None:
        where = {"attempt": self.attempt, "rank": trainer.global_rank, "num_ranks": trainer.world_size}
        entry = {"what": what, "time_s": time.time(), "step": trainer.global_step} | where | told
        os.write(self._file, (json.dumps(entry) + "\n").encode())


def entries(path: Path, since: int = 0) -> list[Entry]:
    """Those after the first `since` bytes."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(since)
        return [json.loads(line) for line in file]


def surviving(found: list[Entry]) -> dict[int, list[Entry]]:
    """Step -> what its ranks wrote. An attempt cancels what earlier ones did after the step it began at."""
    history: dict[int, list[Entry]] = {}
    for attempt in sorted({entry["attempt"] for entry in found}):
        mine = [entry for entry in found if entry["attempt"] == attempt]
        starts = {entry["step"] for entry in mine if entry["what"] == "began"}
        assert len(starts) <= 1, f"the ranks of attempt {attempt} began at steps {starts}"
        for start in starts:
            history = {step: ranks for step, ranks in history.items() if step <= start}
        for entry in mine:
            if entry["what"] == "step":
                history.setdefault(entry["step"], []).append(entry)
    return dict(sorted(history.items()))


def batches(history: dict[int, list[Entry]]) -> list[list[int]]:
    """The samples of each surviving step's global batch, sorted."""
    return [sorted(name for rank in ranks for name in rank["samples"]) for ranks in history.values()]


def losses(history: dict[int, list[Entry]]) -> list[float]:
    return [sum(rank["loss"] for rank in ranks) / len(ranks) for ranks in history.values()]


def planned(samples: TrainingSamples, *, steps: int) -> list[tuple[int, list[int]]]:
    """(epoch, samples of the global batch) of each step, by the names that `samples_in` gives."""
    name = samples.histories.value[samples.begin].astype(int)
    assert len(set(name)) == len(samples)
    plan, found, epoch = BatchPlan(lengths=samples.lengths, config=PLAN), list[tuple[int, list[int]]](), 0
    while len(found) < steps:
        found += [(epoch, sorted(name[rows].tolist())) for rows in plan.batches(epoch)]
        epoch += 1
    return found[:steps]


def lost_and_doubled(history: dict[int, list[Entry]], plan: list[tuple[int, list[int]]]) -> tuple[int, int]:
    """Samples of an epoch that were learned from too seldom, and too often, over all epochs."""
    wanted = Counter((epoch, name) for epoch, names in plan for name in names)
    found = Counter(
        (rank["epoch"], name) for ranks in history.values() for rank in ranks for name in rank["samples"]
    )
    return (wanted - found).total(), (found - wanted).total()


def durations(found: list[Entry], what: str) -> list[float]:
    """Seconds that each rank took for each that it ended."""
    began: dict[tuple[int, int], float] = {}
    lasted = []
    for entry in found:
        who = entry["attempt"], entry["rank"]
        if entry["what"] == what:
            began[who] = entry["time_s"]
        elif entry["what"] == f"{what} done":
            lasted.append(entry["time_s"] - began[who])
    return lasted


def back_after(found: list[Entry], *, attempt: int, killed_s: float) -> float | None:
    """Seconds from a kill until the next attempt had made the step at which it came; None where either
    attempt made no step, or not as many.
    """
    made = [e["step"] for e in found if e["attempt"] == attempt and e["what"] == "step"]
    again = [
        e["time_s"]
        for e in found
        if made and e["attempt"] == attempt + 1 and e["what"] == "step" and e["step"] >= max(made)
    ]
    return again[0] - killed_s if again else None
