"""Work that ranks share beside training: who is which, and what each found."""

from __future__ import annotations

import gc
from typing import Any

import torch.distributed as dist


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


def leave_ranks() -> None:
    """End what ranks have shared, at the end of a command; every rank for itself. Threads of a backend that
    the interpreter finds running when it ends may have the process aborted. They go with the last that
    holds the group, as the mesh of a sharded table does, in cycles of a trainer that is no more.
    """
    if dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()
