"""A rank that stands still ends the job and is named, instead of keeping all nodes waiting for ever."""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import threading
import time
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist

EXIT_CODE = 75
_PHASES = ("waits for data", "forward", "backward", "update")


class Watchdog(pl.Callback):
    """Every rank tells the store where it stands; who stands longer than `stalled_after_s` at the earliest
    place of all ranks is the one the others wait for. The process ends with code 75.
    """

    def __init__(self, *, stalled_after_s: float = 1800.0) -> None:
        self.stalled_after_s = stalled_after_s
        self._place = (0, 0)  # (step, phase)
        self._since = time.monotonic()
        self._over = threading.Event()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._over.clear()
        self._move(trainer, 0)
        watch = threading.Thread(
            target=self._watch, args=(trainer.global_rank, trainer.world_size), name="watchdog", daemon=True
        )
        watch.start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._over.set()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._over.set()

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self._move(trainer, 1)

    def on_before_backward(self, trainer: pl.Trainer, *_: Any) -> None:
        self._move(trainer, 2)

    def on_after_backward(self, trainer: pl.Trainer, *_: Any) -> None:
        self._move(trainer, 3)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._move(trainer, 0)

    def _move(self, trainer: pl.Trainer, phase: int) -> None:
        self._place, self._since = (trainer.global_step, phase), time.monotonic()

    def _watch(self, rank: int, num_ranks: int) -> None:
        store = dist.distributed_c10d._get_default_store() if dist.is_initialized() else None
        while not self._over.wait(min(self.stalled_after_s / 4, 15.0)):
            stood_s = time.monotonic() - self._since
            mine = [*self._place, stood_s, socket.gethostname()]
            places = {rank: mine}
            if store is not None:
                store.set(f"watchdog/{rank}", json.dumps(mine))
                if stood_s > self.stalled_after_s:
                    for other in range(num_ranks):
                        if other != rank and store.check([f"watchdog/{other}"]):
                            places[other] = json.loads(store.get(f"watchdog/{other}"))
            if stood_s > self.stalled_after_s and not self._over.is_set():
                _end(places)


def _end(places: dict[int, list[Any]]) -> None:
    """Name the rank that is furthest behind, show where this process stands, and leave."""
    behind = min(places, key=lambda rank: (places[rank][0], places[rank][1]))
    step, phase, stood_s, host = places[behind]
    print(
        f"error: rank {behind} on {host} has stood at step {step} ({_PHASES[phase]}) for {stood_s:.0f} s;"
        " the job ends. Look at that node, then go on with resume=auto",
        file=sys.stderr,
        flush=True,
    )
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    os._exit(EXIT_CODE)
