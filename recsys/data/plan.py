"""The order of training: global batches from (seed, epoch) alone, dealt to whatever ranks there are.

A run that is cut off goes on at (epoch, batches done), on another number of ranks too, with the same next
sample: neither the world size nor the number of workers enters the plan.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from recsys.batch import TrainBatch
from recsys.data.collate import train_batch
from recsys.data.samples import TrainingSamples
from recsys.schema import InputError
from recsys.settings import check_range

_BURST = 8  # batches


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """How an epoch is cut into global batches.

    tokens: events of a global batch, padding included, at most; but `multiple` rows, however long.
    least_batches: of an epoch. Where there are too few events for as many of that size, batches are smaller,
        down to `multiple` rows, so that a small log is learned from in enough steps.
    multiple: rows of a batch are a multiple of it. Where ranks x accumulation divides it, every micro batch
        has as many rows; elsewhere some have one less, in small batches none.
    block, pool_blocks, pool_batches: rows are shuffled in blocks and bucketed by length within pools of at
        least so many blocks, and of enough for so many batches: fewer rows are less alike and leave more
        padding. A pool bounds memory whatever the table's size.
    """

    tokens: int = 4096
    least_batches: int = 1
    multiple: int = 8
    block: int = 64
    pool_blocks: int = 64
    pool_batches: int = 32
    max_rows: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("tokens", "least_batches", "multiple", "block", "pool_blocks", "pool_batches", "max_rows")
        for name in counts:
            check_range(f"data.plan.{name}", getattr(self, name), least=1)
        check_range("data.plan.seed", self.seed, least=0)


class BatchPlan:
    """Global batches of sample numbers, length-bucketed under a token budget."""

    def __init__(self, *, lengths: np.ndarray, config: PlanConfig) -> None:
        self.lengths, self.config = lengths, config
        self.tokens = config.tokens
        if config.least_batches > 1:
            self.tokens = min(self.tokens, max(1, int(lengths.sum()) // config.least_batches))
        self.num_blocks = -(-len(lengths) // config.block)
        block_events = max(1, int(lengths.sum()) // max(1, self.num_blocks))
        self.pool_blocks = max(config.pool_blocks, config.pool_batches * self.tokens // block_events)
        self.num_pools = -(-self.num_blocks // self.pool_blocks)

    def batches(self, epoch: int, start: int = 0) -> Iterator[np.ndarray]:
        """Batches `start`, `start + 1`, ... of an epoch: every sample exactly once."""
        done, order = 0, self._order(epoch)
        for pool in range(self.num_pools):
            batches = self._pool(order, epoch, pool)
            yield from batches[max(0, start - done) :]
            done += len(batches)

    def num_batches(self, epoch: int) -> int:
        order = self._order(epoch)
        return sum(len(self._pool(order, epoch, pool)) for pool in range(self.num_pools))

    def _order(self, epoch: int) -> np.ndarray:
        """int64, of the blocks."""
        return np.random.default_rng([self.config.seed, epoch]).permutation(self.num_blocks)

    def _pool(self, order: np.ndarray, epoch: int, pool: int) -> list[np.ndarray]:
        config = self.config
        blocks = np.sort(order[pool * self.pool_blocks : (pool + 1) * self.pool_blocks])
        rows = (blocks[:, None] * config.block + np.arange(config.block)).ravel()
        rows = rows[rows < len(self.lengths)]
        rng = np.random.default_rng([config.seed, epoch, pool + 1])
        rows = rows[rng.permutation(len(rows))]
        rows = rows[np.argsort(self.lengths[rows], kind="stable")]
        batches, at = [], 0
        while at < len(rows):
            ahead = np.maximum(self.lengths[rows[at : at + config.max_rows]], 1)
            fits = int(np.searchsorted(np.arange(1, len(ahead) + 1) * ahead, self.tokens, "right"))
            size = max(config.multiple, fits // config.multiple * config.multiple)
            batches.append(rows[at : at + size])
            at += size
        return [batches[k] for k in rng.permutation(len(batches))]


class _MicroBatches(Dataset[TrainBatch]):
    def __init__(self, samples: TrainingSamples, *, seed: int, packed: bool) -> None:
        self.samples, self.seed, self.packed = samples, seed, packed

    def __getitems__(self, requests: list[tuple[np.ndarray, float, int, tuple[int, int]]]) -> TrainBatch:
        rows, total_weight, total_cuts, position = requests[0]
        return train_batch(
            self.samples,
            rows,
            total_weight=total_weight,
            total_cuts=total_cuts,
            position=position,
            seed=self.seed,
            packed=self.packed,
        )


def _same(batch: TrainBatch) -> TrainBatch:
    return batch


def _in_bursts(batches: Iterator[TrainBatch], *, most: int) -> Iterator[TrainBatch]:
    """The same, made a few at a time: right after a step the caches are cold and one takes thrice as long."""
    left = most
    while burst := list(islice(batches, min(_BURST, left))):
        yield from burst
        left = left - len(burst) or most


def _ignore_preemption(worker: int) -> None:
    """Slurm signals every process of a job; a worker with the trainer's handler would wait for ever."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


class ElasticLoader:
    """An endless stream of micro batches of this rank; `len` is constant, so a trainer's epoch is too.

    State: the data epoch and the global batches done in it, with all that the order and the samples are made
    of, which must not change. packed: batches say where their real positions lie. pinned: they lie in memory
    from where a GPU fetches them by itself.
    """

    def __init__(
        self,
        *,
        samples: TrainingSamples,
        config: PlanConfig,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
        num_workers: int = 0,
        packed: bool = False,
        pinned: bool = False,
    ) -> None:
        self.samples, self.config, self.packed, self.pinned = samples, config, packed, pinned
        self.plan = BatchPlan(lengths=samples.lengths, config=config)
        self.rank, self.world, self.accumulate, self.num_workers = rank, world, accumulate, num_workers
        self.steps = self.plan.num_batches(0)
        self.epoch = self.done = 0
        self.waited_s = 0.0  # by whoever iterated, since the start

    def __len__(self) -> int:
        return self.steps * self.accumulate

    def __iter__(self) -> Iterator[TrainBatch]:
        loader = DataLoader(
            _MicroBatches(self.samples, seed=self.config.seed, packed=self.packed),
            batch_sampler=self._requests(),  # type: ignore[arg-type]
            num_workers=self.num_workers,
            collate_fn=_same,  # type: ignore[arg-type]
            worker_init_fn=_ignore_preemption,
            pin_memory=self.pinned,
            generator=torch.Generator(),  # else its seed is drawn from the stream that dropout uses
        )
        began = time.perf_counter()
        ahead = self.num_workers > 0 or self.pinned  # made while a step goes on
        batches = iter(loader) if ahead else _in_bursts(iter(loader), most=len(self))
        for micro, batch in enumerate(batches, 1):
            self.waited_s += time.perf_counter() - began
            if micro % self.accumulate == 0:
                self.epoch, self.done = batch.position
            yield batch
            began = time.perf_counter()

    def _requests(self) -> Iterator[list[tuple[np.ndarray, float, int, tuple[int, int]]]]:
        epoch, start = self.epoch, self.done
        parts = self.world * self.accumulate
        while True:
            for k, rows in enumerate(self.plan.batches(epoch, start), start):
                weight = float(self.samples.weight[rows].sum())
                cuts = int(self.samples.num_cuts[rows].sum())
                padded = np.r_[rows, np.full(-len(rows) % parts, -1)]
                for micro in range(self.accumulate):
                    yield [(padded[self.rank + self.world * micro :: parts], weight, cuts, (epoch, k + 1))]
            epoch, start = epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "done": self.done,
            "plan": asdict(self.config),
            "samples": asdict(self.samples.config),
            "fit_until": self.samples.fit_until,
            "table_version": self.samples.tables.version,
            "table_fingerprint": self.samples.tables.fingerprint,
            "num_samples": len(self.samples),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        mine = self.state_dict()
        for name in (name for name in mine if name not in ("epoch", "done")):
            if state.get(name) != mine[name]:
                raise InputError(
                    f"the checkpoint was made with another {name} ({_change(state.get(name), mine[name])}); "
                    "resume with the old settings and tables or start a new run"
                )
        self.epoch, self.done = state["epoch"], state["done"]


def _change(before: Any, now: Any) -> str:
    """Of settings only those that differ."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return f"{before}, now {now}"
    names = [name for name in now if before.get(name) != now[name]]
    return "; ".join(f"{name}={before.get(name)}, now {now[name]}" for name in names)
