"""What a run does when it is asked to go: save, close its logs, have Slurm run it again, leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Any

import pytorch_lightning as pl

from recsys.parallel.checkpoints import LastCheckpoints
from recsys.tracking import finish_wandb

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


def leave_whole() -> None:
    """Before and after training SIGTERM ends the process at once, but not without W&B's exit record."""

    def leave(number: int, frame: FrameType | None) -> None:
        finish_wandb(128 + number)
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


class Preemption(pl.Callback):
    """SIGUSR1 (Slurm, before it takes the nodes) and SIGTERM end the run at the next step with a checkpoint.

    A signal may reach ranks at different steps, so they agree after every step; the job is requeued where
    Slurm sent SIGUSR1 to one that may be.
    """

    def __init__(self) -> None:
        self._asked: signal.Signals | None = None
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning has set its own by now; that for SIGTERM waits for the other ranks wherever it comes."""
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._note)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if not trainer.strategy.reduce_boolean_decision(self._asked is not None, all=False):
            return
        name = self._asked or signal.SIGTERM
        keeper = next(c for c in trainer.callbacks if isinstance(c, LastCheckpoints))  # type: ignore[attr-defined]
        path = keeper.save_now(trainer)
        for logger in trainer.loggers:
            logger.finalize("success")
        finish_wandb(128 + name.value)
        asks = self._asks_slurm(trainer)
        if trainer.is_global_zero:  # before Slurm is asked: it may end the process at once
            then = "asking Slurm to run it again" if asks else "go on with resume=auto"
            print(
                f"preempted at step {trainer.global_step}: saved {path}; {then}", file=sys.stderr, flush=True
            )
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what Slurm sends next must end the process
        requeued = asks and _requeue(trainer)
        trainer.strategy.barrier()
        while requeued:  # Slurm ends all tasks now; one that left by itself would look like a finished run
            time.sleep(1)
        # os._exit: threads of loaders and loggers would keep an interpreter that ends in the middle of a fit
        os._exit(128 + name.value)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = signal.Signals(number)

    def _asks_slurm(self, trainer: pl.Trainer) -> bool:
        """Whether a job of Slurm's was warned; the warning may have reached any rank first."""
        warned = trainer.strategy.reduce_boolean_decision(self._asked == signal.SIGUSR1, all=False)
        return warned and "SLURM_JOB_ID" in os.environ


def _requeue(trainer: pl.Trainer) -> bool:
    """True where Slurm was told to run the job again; asked by the first rank, known to all."""
    done = False
    if trainer.is_global_zero:
        job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ["SLURM_JOB_ID"]
        task = os.environ.get("SLURM_ARRAY_TASK_ID")
        command = ["scontrol", "requeue", f"{job}_{task}" if task else job]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        done = told.returncode == 0
        if not done:
            why = (told.stderr or "").strip()
            print(f"Slurm does not run it again ({why}); go on with resume=auto", file=sys.stderr, flush=True)
    return bool(trainer.strategy.broadcast(done))
