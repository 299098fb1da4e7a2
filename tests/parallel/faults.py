"""One run that is killed again and again: real processes as ranks, killed at random moments and started anew.

The processes are forked from one that has imported everything, so that an attempt begins at once.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from recsys.parallel.checkpoints import LastCheckpoints, to_resume
from recsys.parallel.preemption import Preemption
from tests.parallel.ledger import Entry, Ledger, entries
from tests.parallel.ranks import free_port, place_of
from tests.parallel.training import train

STEPS, KILLS = 150, 22
ALONE = {"ddp": (), "zero2 sharded": (9, 10, 11, 12, 13)}  # kind of run -> attempts on one rank
DAMAGED = (5, 14)  # attempts that find the newest checkpoint damaged
EVERY, KEPT = 3, 2  # steps between checkpoints, and how many are kept
PACE = {"step_s": 0.02, "disk_s": 0.1}  # so that kills fall at varied moments
FORKS = multiprocessing.get_context("forkserver")
STARTING, STEPPING, SAVING = "while starting", "between steps", "while saving"
SCHEDULE = (  # of attempts, again and again
    (signal.SIGKILL, STARTING),
    (signal.SIGTERM, STEPPING),
    (signal.SIGKILL, SAVING),
    (signal.SIGUSR1, STEPPING),
    (signal.SIGKILL, STEPPING),
    (signal.SIGTERM, SAVING),
    (signal.SIGKILL, SAVING),
    (signal.SIGUSR1, STARTING),
)


@dataclass
class Kill:
    attempt: int
    number: signal.Signals
    moment: str  # that was aimed at
    time_s: float
    saving: bool = False  # whether a checkpoint was being written and never was


@dataclass
class Damage:
    attempt: int  # the one that met it
    checkpoint: str
    step_before: int  # of the checkpoint before it
    said: str = ""


@dataclass
class KilledRun:
    """`kept`: what the ranks of the last attempt returned."""

    kills: list[Kill] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    found: list[Entry] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)


def run_with_kills(
    folder: Path,
    *,
    run: dict[str, Any],
    kills: int,
    alone: tuple[int, ...] = (),
    damaged: tuple[int, ...] = (),
) -> KilledRun:
    """`run`: arguments of `training.train`. Attempts `alone` have one rank, the others two; before attempts
    `damaged` a byte of the newest checkpoint is changed. After so many kills the run may end.
    """
    FORKS.set_forkserver_preload(["tests.parallel.faults", "deepspeed"])
    folder.mkdir(parents=True)
    luck, done, attempt = random.Random(0), KilledRun(), 0
    while True:
        if attempt in damaged:
            done.damages.append(_damage(folder, attempt, luck))
        num_ranks = 1 if attempt in alone else 2
        last = len(done.kills) >= kills
        ranks = _start(folder, attempt, run | {"num_ranks": num_ranks}, {} if last else PACE)
        if not last:
            number, moment = SCHEDULE[attempt % len(SCHEDULE)]
            moment = STEPPING if attempt in damaged else moment
            done.kills.append(_kill(folder, ranks, attempt, number, moment, luck))
        _end(ranks, timeout_s=180 if last else 60)
        logs = "".join(_log(folder, attempt, rank).read_text() for rank in range(num_ranks))
        for damage in done.damages:
            damage.said += logs if damage.attempt == attempt else ""
        codes = [rank.exitcode for rank in ranks]
        if last:
            assert codes == [0] * num_ranks, f"exit codes {codes}\n{logs[-6000:]}"
            break
        assert any(codes), f"attempt {attempt} ended the run before it was killed"
        attempt += 1
    done.found = entries(folder / "ledger")
    for kill in done.kills:
        done_by_rank = [
            [
                entry["what"]
                for entry in done.found
                if (entry["attempt"], entry["rank"]) == (kill.attempt, rank)
            ]
            for rank in range(2)
        ]
        kill.saving = any(
            whats.count("save_checkpoint") > whats.count("save_checkpoint done") for whats in done_by_rank
        )
    done.kept = [torch.load(folder / f"kept{rank}.pt", weights_only=False) for rank in range(num_ranks)]
    return done


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, checkpoint) of a run's folder, the earliest first."""
    return sorted((int(p.stem.removeprefix("step-")), p) for p in (folder / "checkpoints").glob("step-*"))


def _damage(folder: Path, attempt: int, luck: random.Random) -> Damage:
    """Changes one byte of one file of the newest checkpoint or of its tables."""
    *_, (step_before, _), (_, newest) = checkpoints(folder)
    files = [newest, *newest.rglob("*.pt"), *newest.with_name(f".tables-{newest.name}").rglob("*.distcp")]
    files = sorted(file for file in files if file.is_file() and file.stat().st_size)
    chosen = luck.choice(files)
    content = bytearray(chosen.read_bytes())
    content[len(content) // 2] ^= 1
    chosen.write_bytes(content)
    return Damage(attempt, newest.name, step_before)


def _log(folder: Path, attempt: int, rank: int) -> Path:
    return folder / f"attempt{attempt}-rank{rank}.log"


def _start(folder: Path, attempt: int, run: dict[str, Any], pace: dict[str, float]) -> list[BaseProcess]:
    port = free_port()
    ranks: list[BaseProcess] = []
    for rank in range(run["num_ranks"]):
        place = place_of(rank, num_ranks=run["num_ranks"], port=port)
        ranks.append(FORKS.Process(target=_live, args=(folder, attempt, rank, place, run, pace)))
        ranks[-1].start()
    return ranks


def _live(
    folder: Path, attempt: int, rank: int, place: dict[str, str], run: dict[str, Any], pace: dict[str, float]
) -> None:
    """A rank of one attempt, in a process of its own."""
    os.setsid()  # what it starts is killed with it, as Slurm does
    log = os.open(_log(folder, attempt, rank), os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(place, TORCH_EXTENSIONS_DIR=str(folder / "extensions"))
    torch.set_num_threads(1)
    if pace:
        sys.addaudithook(_slow_disk(str(folder / "checkpoints"), pace["disk_s"]))
    keeper = LastCheckpoints(dirpath=str(folder / "checkpoints"), every_n_train_steps=EVERY, save_top_k=KEPT)
    kept = train(
        **run,
        optimizer="adam",
        resume=to_resume("auto", folder / "checkpoints"),
        more=[
            Ledger(folder / "ledger", attempt=attempt, step_s=pace.get("step_s", 0.0)),
            keeper,
            Preemption(),
        ],
    )
    torch.save(kept, folder / f"kept{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _slow_disk(folder: str, delay_s: float) -> Callable[[str, tuple[Any, ...]], None]:
    """Every file and folder that is made or renamed under `folder` takes that long."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        writes = event in ("os.rename", "os.mkdir") or (event == "open" and "w" in str(args[1]))
        if writes and str(args[0]).startswith(folder):
            time.sleep(delay_s)

    return hook


def _kill(
    folder: Path,
    ranks: list[BaseProcess],
    attempt: int,
    number: signal.Signals,
    moment: str,
    luck: random.Random,
) -> Kill:
    """Waits for a random moment of that kind. SIGKILL takes one rank, and within a checkpoint all of them, as
    a node that is down does; the others go to one or to all.
    """

    def count(what: str) -> int:
        return sum(e["attempt"] == attempt and e["what"] == what for e in entries(ledger, since))

    ledger = folder / "ledger"
    since = ledger.stat().st_size if ledger.exists() else 0
    if moment == STARTING:
        time.sleep(luck.uniform(0, 4.0))
    else:
        what, most = ("step", 6) if moment == STEPPING else ("save_checkpoint", 2)
        times = luck.randint(1, most) * len(ranks)
        while count(what) < times and all(rank.is_alive() for rank in ranks):
            time.sleep(0.005)
        time.sleep(luck.uniform(0, 0.15))
    to_all = moment == SAVING if number == signal.SIGKILL else luck.random() < 0.5
    for victim in ranks if to_all else [luck.choice(ranks)]:
        assert victim.pid is not None
        if victim.is_alive():
            os.kill(victim.pid, number)
    return Kill(attempt, number, moment, time.time())


def _end(ranks: list[BaseProcess], *, timeout_s: float) -> None:
    """As `srun --kill-on-bad-exit` does: when one has ended badly the others are killed a little later."""
    until = time.monotonic() + timeout_s
    while any(rank.is_alive() for rank in ranks) and time.monotonic() < until:
        if any(rank.exitcode for rank in ranks):
            until = min(until, time.monotonic() + 1.0)
        time.sleep(0.02)
    for rank in ranks:
        if rank.is_alive():
            assert rank.pid is not None
            os.killpg(rank.pid, signal.SIGKILL)
        rank.join()
