"""Work that ranks share, and how they leave each other."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from recsys.parallel import dealing
from tests.parallel.ranks import ROOT, free_port, place_of


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_all_get_as_many_and_each_piece_is_wanted_once(monkeypatch: pytest.MonkeyPatch, world: int) -> None:
    work = [2, 3, 5, 7]
    shares = []
    for rank in range(world):
        monkeypatch.setattr(dealing, "rank_and_world", lambda rank=rank: (rank, world))
        shares.append(list(dealing.dealt(work)))
    assert {len(share) for share in shares} == {-(-len(work) // world)}
    assert sorted(piece for share in shares for piece, is_wanted in share if is_wanted) == work
    assert {piece for share in shares for piece, _ in share} == set(work)
    assert list(dealing.dealt([])) == []


# Its group is held by a mesh, and that by a cycle, as a table of a trainer's module holds it.
LEAVES = """
import os, sys
import torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from recsys.parallel.dealing import join_ranks, leave_ranks

def threads():
    names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
    return sum("gloo" in name for name in names)

class Held:
    pass

def work():
    held = Held()
    held.mesh, held.itself = init_device_mesh("cpu", (2,)), held
    dist.all_reduce(torch.ones(3))
    assert threads() > 0

join_ranks()
work()
leave_ranks()
sys.exit(f"{threads()} threads are left" if threads() else 0)
"""


@pytest.mark.distributed
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are told from /proc")
def test_no_thread_of_the_group_outlives_it() -> None:
    port = free_port()
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", LEAVES],
            cwd=ROOT,
            env=os.environ | place_of(rank, num_ranks=2, port=port),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
