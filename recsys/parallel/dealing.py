"""Work that ranks share beside training: who is which, and what each found."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from recsys.parallel.cluster import launched

_WAITS = timedelta(days=1)  # for ranks that have more to do; one that has died ends the others at once


def join_ranks() -> None:
    """Make the processes that srun or torchrun has started together ranks; one by itself stays so."""
    found = launched()
    if found is not None and found.world > 1:
        server = f"tcp://{found.address}:{found.port}"
        dist.init_process_group(
            "gloo", init_method=server, rank=found.rank, world_size=found.world, timeout=_WAITS
        )


def rank_and_world() -> tuple[int, int]:
    """(0, 1) where there are no ranks."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def of_all_ranks(mine: Any) -> list[Any]:
    """What every rank has, in their order; a collective."""
    _, world = rank_and_world()
    if world == 1:
        return [mine]
    found: list[Any] = [None] * world
    dist.all_gather_object(found, mine)
    return found


def dealt(work: Sequence[int]) -> Iterator[tuple[int, bool]]:
    """(piece, whether its result is wanted) for this rank. All ranks get as many: who has none left does the
    last one again, since what ranks compute with tables that they share must be asked for by all.
    """
    rank, world = rank_and_world()
    for first in range(0, len(work), world):
        place = first + rank
        yield work[min(place, len(work) - 1)], place < len(work)


def leave_ranks() -> None:
    """End what ranks have shared, at the end of a command; every rank for itself. Threads of a backend that
    the interpreter finds running when it ends may have the process aborted. They go with the last that
    holds the group, as the mesh of a sharded table does, in cycles of a trainer that is no more.
    """
    if dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()
