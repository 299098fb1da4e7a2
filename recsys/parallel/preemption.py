"""Slurm warns before it takes nodes away: save at the next step, requeue the job, wait for the end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl


class SaveAndRequeue(pl.Callback):
    """On SIGUSR1 in a job of Slurm. Ranks are warned at different moments, and a save is a collective act, so
    they ask each other every few steps and save after the same one. Lightning's own handler saves where the
    signal finds it, which can leave ranks waiting for each other in different places, and under a name of its
    own that is loaded before any newer checkpoint.
    """

    def __init__(self, *, dirpath: str, every_n_steps: int = 1) -> None:
        self.folder, self.every_n_steps = Path(dirpath), every_n_steps
        self.job_id = _job_id()
        self._is_warned = False
        self._last_step = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.job_id:
            signal.signal(signal.SIGUSR1, self._warned)  # Lightning leaves a handler that is there alone

    def _warned(self, number: int, frame: FrameType | None) -> None:
        self._is_warned = True

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        step = trainer.global_step
        if not self.job_id or step == self._last_step or step % self.every_n_steps:
            return
        self._last_step = step
        if not trainer.strategy.reduce_boolean_decision(self._is_warned, all=False):
            return
        path = self.folder / f"step={step}.ckpt"
        trainer.save_checkpoint(path)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Lightning's handler asks ranks that have ended
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            print(f"warned by Slurm: saved {path}, requeueing job {self.job_id}", flush=True)
            subprocess.run(["scontrol", "requeue", self.job_id], check=True)
        while True:  # Slurm ends all tasks now
            time.sleep(1)


def _job_id() -> str | None:
    """In an array by its number there: the id of one of its tasks stands for the whole array."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")
