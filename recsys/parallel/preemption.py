"""What a run does when it is asked to go: save, close its logs, have Slurm run it again, leave."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType
from typing import Any

import pytorch_lightning as pl

from recsys.parallel.checkpoints import LastCheckpoints
from recsys.tracking import finish_wandb
from recsys.warning import leave_when_warned, requeue

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


def leave_whole() -> None:
    """Before and after training both signals end the process at once, but not without W&B's exit record."""

    def leave(number: int, frame: FrameType | None) -> None:
        finish_wandb(128 + number)
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    leave_when_warned(finish_wandb)


class Preemption(pl.Callback):
    """SIGUSR1 (Slurm, before it takes the nodes) and SIGTERM end the run at the next step with a checkpoint,
    if it keeps any.

    A signal may reach ranks at different steps, so they agree after every step; the job is requeued where
    Slurm sent SIGUSR1 to one that may be.
    """

    def __init__(self) -> None:
        self._asked: signal.Signals | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning has set its own by now; that for SIGTERM waits for the other ranks wherever it comes.
        When the fit is over it puts back those that were there before.
        """
        for number in SIGNALS:
            signal.signal(number, self._note)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._leave_if_asked(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The evaluation of the last epoch may have taken long."""
        self._leave_if_asked(trainer)
        leave_whole()
        if self._asked is not None:  # since the ranks agreed
            signal.raise_signal(self._asked)

    def _leave_if_asked(self, trainer: pl.Trainer) -> None:
        if not trainer.strategy.reduce_boolean_decision(self._asked is not None, all=False):
            return
        name = self._asked or signal.SIGTERM
        keepers = [c for c in trainer.callbacks if isinstance(c, LastCheckpoints)]  # type: ignore[attr-defined]
        saved = [f"saved {keeper.save_now(trainer)}" for keeper in keepers]
        for logger in trainer.loggers:
            logger.finalize("success")
        finish_wandb(128 + name.value)
        asks = self._asks_slurm(trainer)
        if trainer.is_global_zero:  # before Slurm is asked: it may end the process at once
            what = saved[0] if saved else "nothing was saved, for want of callbacks.checkpoint"
            alone = "go on with resume=auto" if saved else "run it anew"
            then = "asking Slurm to run it again" if asks else alone
            print(f"preempted at step {trainer.global_step}: {what}; {then}", file=sys.stderr, flush=True)
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
    return bool(trainer.strategy.broadcast(trainer.is_global_zero and requeue()))
