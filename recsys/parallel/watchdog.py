"""A rank that stands still ends the job and is named, instead of keeping all nodes waiting for ever."""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch.distributed as dist

from recsys.settings import check_range

EXIT_CODE = 75
_DATA, _SAVES, _EVALUATES, _NEXT_DATA, _FORWARD, _BACKWARD, _UPDATE = range(7)  # in the order of a step
_PHASES = (
    "waits for data",
    "saves a checkpoint, or waits for data after it",
    "evaluates",
    "waits for data",
    "forward",
    "backward",
    "update",
)
_FITS = itertools.count()  # the store outlives a fit
_JOINED_WITHIN_S = 60.0  # a call to a store that answers takes less; with one that stands it never ends


class Place(NamedTuple):
    """Where a rank stands, since when, and when it last said so; times are Unix seconds."""

    micro: int  # micro batches that it has done
    phase: int
    step: int
    since: float
    told: float
    host: str


class Watchdog(pl.Callback):
    """Every rank tells the store where it stands. Where the one that is furthest behind has stood for
    `stalled_after_s`, all print its name and end with code 75. One step has many places: a micro batch each,
    with its phases.

    Between steps, while a rank evaluates or saves a checkpoint, nothing tells that it gets on: it may stand
    there for `stalled_between_s`, which must be longer than either takes, and one that hangs there is found
    no sooner. What comes after training is not watched.

    A rank that tells nothing for `stalled_after_s` has a process or a node that stands. The store lives in
    rank 0, so rank 0 is the one where the store does not answer for as long.
    """

    def __init__(self, *, stalled_after_s: float = 1800.0, stalled_between_s: float = 14400.0) -> None:
        check_range("callbacks.watchdog.stalled_after_s", stalled_after_s, above=0)
        check_range("callbacks.watchdog.stalled_between_s", stalled_between_s, above=0)
        self.stalled_after_s, self.stalled_between_s = stalled_after_s, stalled_between_s
        self.every_s = min(stalled_after_s / 4, 15.0)
        self._place = self._at(0, _DATA, 0)
        self._answered = time.time()
        self._over, self._ends = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._over = threading.Event()
        self._place, self._answered = self._at(0, _DATA, trainer.global_step), time.time()
        ranks = (trainer.global_rank, trainer.world_size)
        arguments = (self._over, next(_FITS), *ranks)
        self._threads = [
            threading.Thread(target=target, args=arguments, name=name, daemon=True)
            for name, target in (("watchdog", self._watch_ranks), ("watchdog-store", self._watch_store))
        ]
        for thread in self._threads:
            thread.start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        while self._ends.is_set():  # other ranks have left already, which is what this one stumbled over
            time.sleep(1)
        self._stop()

    def _stop(self) -> None:
        """A thread that is within a call to the store when the interpreter ends has the process aborted."""
        self._over.set()
        until = time.monotonic() + _JOINED_WITHIN_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self._move(trainer, _FORWARD)

    def on_before_backward(self, trainer: pl.Trainer, *_: Any) -> None:
        self._move(trainer, _BACKWARD)

    def on_after_backward(self, trainer: pl.Trainer, *_: Any) -> None:
        self._move(trainer, _UPDATE)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._move(trainer, _DATA, more=1)

    def on_save_checkpoint(self, trainer: pl.Trainer, *_: Any) -> None:
        self._move(trainer, _SAVES)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._move(trainer, _EVALUATES)  # the module's own hook, which evaluates, comes after this one

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self._move(trainer, _NEXT_DATA)

    def _move(self, trainer: pl.Trainer, phase: int, *, more: int = 0) -> None:
        self._place = self._at(self._place.micro + more, phase, trainer.global_step)

    def _at(self, micro: int, phase: int, step: int) -> Place:
        return Place(micro, phase, step, since=time.time(), told=0.0, host=socket.gethostname())

    def _watch_ranks(self, over: threading.Event, fit: int, rank: int, num_ranks: int) -> None:
        try:
            told = _Told(fit, rank, num_ranks) if dist.is_initialized() else None
            while not over.wait(self.every_s):
                self._answered = now = time.time()
                mine = self._place._replace(told=now)
                line = None
                if told is not None:
                    told.tell(mine)
                    line = told.line()
                if line is None and now - mine.since > self.stalled_after_s:
                    line = self._judge(told.places() if told is not None else {rank: mine})
                if line is not None and not over.is_set():
                    self._ends.set()
                    _end(told.agree(line, wait_s=2 * self.every_s + 5) if told is not None else line)
        except dist.DistError:
            return  # from here on the store does not answer, which the other thread sees

    def _watch_store(self, over: threading.Event, fit: int, rank: int, num_ranks: int) -> None:
        """In a thread of its own: where rank 0 stands, a call to the store never comes back."""
        while not over.wait(self.every_s):
            silent_s = time.time() - self._answered
            if silent_s > self.stalled_after_s + self.every_s and not over.is_set():
                self._ends.set()
                _end(f"error: rank 0 has not answered for {silent_s:.0f} s: it stands or is gone")

    def _judge(self, places: Mapping[int, Place]) -> str | None:
        return judge(
            places,
            now=time.time(),
            stalled_after_s=self.stalled_after_s,
            stalled_between_s=self.stalled_between_s,
        )


def judge(
    places: Mapping[int, Place], *, now: float, stalled_after_s: float, stalled_between_s: float
) -> str | None:
    """Whom the others wait for, if for longer than they should."""
    silent = [rank for rank, place in places.items() if now - place.told > stalled_after_s]
    if silent:
        silent_s = now - min(places[rank].told for rank in silent)
        return f"error: {_named(silent, places)} told nothing for {silent_s:.0f} s: process or node stands"
    behind = min((place.micro, place.phase) for place in places.values())
    ranks = [rank for rank, place in places.items() if (place.micro, place.phase) == behind]
    first = min((places[rank] for rank in ranks), key=lambda place: place.since)
    stood_s, is_between = now - first.since, first.phase in (_SAVES, _EVALUATES)
    if stood_s <= (stalled_between_s if is_between else stalled_after_s):
        return None
    where = f"step {first.step}, micro batch {first.micro} since the start ({_PHASES[first.phase]})"
    return f"error: {_named(ranks, places)} stood at {where} for {stood_s:.0f} s"


def _named(ranks: list[int], places: Mapping[int, Place]) -> str:
    named = [f"rank {rank} on {places[rank].host}" for rank in ranks[:4]]
    others = [f"{len(ranks) - 4} more"] if len(ranks) > 4 else []
    return f"{' and '.join([*named, *others])} {'has' if len(ranks) == 1 else 'have'}"


class _Told:
    """What ranks tell each other, by a connection of their watchdogs' own. Raises DistError where rank 0 is
    gone; where it stands, calls wait for ever, whatever the timeout.
    """

    def __init__(self, fit: int, rank: int, num_ranks: int) -> None:
        server = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        self._store = dist.TCPStore(
            *server, is_master=False, timeout=timedelta(seconds=60), wait_for_workers=False
        )
        self._name, self._rank, self._num_ranks = f"watchdog/{fit}", rank, num_ranks
        self._began = time.time()

    def tell(self, mine: Place) -> None:
        self._store.set(f"{self._name}/{self._rank}", json.dumps(mine))

    def places(self) -> dict[int, Place]:
        """One that has told nothing yet is behind all others."""
        unknown = Place(-1, _DATA, 0, since=self._began, told=self._began, host="a node that is not known")
        names = {rank: f"{self._name}/{rank}" for rank in range(self._num_ranks)}
        return {
            rank: Place(*json.loads(self._store.get(name))) if self._store.check([name]) else unknown
            for rank, name in names.items()
        }

    def line(self) -> str | None:
        """What a rank that ends the job has found."""
        name = f"{self._name}/line"
        return self._store.get(name).decode() if self._store.check([name]) else None

    def agree(self, line: str, *, wait_s: float) -> str:
        """The first rank's line, once all know of it or `wait_s` are over: those that know are not surprised
        by others that leave.
        """
        end = time.time() + wait_s
        with contextlib.suppress(dist.DistError):  # rank 0 knows that all know, and has left
            line = self._store.compare_set(f"{self._name}/line", "", line).decode()
            self._store.add(f"{self._name}/know", 1)
            while self._store.add(f"{self._name}/know", 0) < self._num_ranks and time.time() < end:
                time.sleep(0.1)
        return line


def _end(line: str) -> None:
    """Say why, show where this process stands, and leave."""
    print(
        f"{line}; the job ends. Look at that node, then go on with resume=auto", file=sys.stderr, flush=True
    )
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    os._exit(EXIT_CODE)
