"""The approximate index beside exact retrieval: how many of the K best it finds, and how much sooner.

`python -m benchmarks.ann [--items 10000000]` makes items and users, asks both in turn, round after round, and
ends with one line of JSON: recall, milliseconds a user, their ratio, time and memory of the index. Needs
faiss (`pip install faiss-cpu`). On a busy machine, `--threads 1 --clock processor` counts only the time that
the process had a processor. `--codes SQ8 PQ32x4fs` puts other codes of faiss beside the index's own,
`--probes 64 128 --candidates 500 1000` other pains taken over a user.

Vectors without structure have no near neighbours, and no index of them is better than a look at all. Those
here have length 1, lie in groups of a heavy-tailed size, and have components of falling variance. A user is
the mean of a few items of a history, and noise; the history is hidden.
Legend: B users, V items (row 0 is padding), D width, G groups, H history.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.top_k import CLOCKS, timed
from recsys.metrics.ragged import Ragged
from recsys.retrieval.approximate import ApproximateConfig, ApproximateIndex, faiss_module
from recsys.retrieval.exact import TopItems, top_items

NUM_GROUPS, NUM_HISTORY, ROWS = 5000, 8, 500_000
SPREAD, NOISE, FALL, TAIL = 0.7, 0.05, 0.35, 1.2  # of items in a group, of users, of variances, of groups
OWN = "recsys"


class World(NamedTuple):
    item_VD: torch.Tensor
    user_BD: torch.Tensor
    seen: Ragged


def world(*, num_items: int, num_users: int, width: int, seed: int = 0) -> World:
    random = np.random.default_rng(seed)
    scale_D = (np.arange(1, width + 1) ** -FALL).astype(np.float32)
    centre_GD = random.standard_normal((NUM_GROUPS, width), dtype=np.float32) * scale_D
    share_G = random.pareto(TAIL, NUM_GROUPS) + 0.2
    item_VD = torch.zeros(num_items + 1, width)
    for start in range(1, num_items + 1, ROWS):
        rows = slice(start, min(start + ROWS, num_items + 1))
        group_R = random.choice(NUM_GROUPS, rows.stop - rows.start, p=share_G / share_G.sum())
        apart_RD = random.standard_normal((len(group_R), width), dtype=np.float32) * scale_D
        item_VD[rows] = F.normalize(torch.from_numpy(centre_GD[group_R] + SPREAD * apart_RD), dim=1)
    history_BH = random.integers(1, num_items + 1, (num_users, NUM_HISTORY))
    weight_BH = torch.from_numpy(random.dirichlet(np.full(NUM_HISTORY, 0.3), num_users)).float()
    mean_BD = F.normalize(torch.einsum("bh,bhd->bd", weight_BH, item_VD[history_BH]), dim=1)
    noise_BD = torch.from_numpy(random.standard_normal((num_users, width), dtype=np.float32))
    user_BD = F.normalize(mean_BD + NOISE * noise_BD, dim=1)
    return World(item_VD, user_BD, Ragged(np.arange(num_users + 1) * NUM_HISTORY, history_BH.ravel()))


def recall(found: TopItems, exact: TopItems) -> float:
    """The mean share of a user's best items that were found."""
    pairs = zip(found.item_BK.numpy(), exact.item_BK.numpy(), strict=True)
    return float(np.mean([len(np.intersect1d(one, other)) / len(other) for one, other in pairs]))


def index_mib(index: ApproximateIndex) -> float:
    return len(faiss_module().serialize_index(index.index)) / 2**20


def answered(index: ApproximateIndex, *, probes: int, candidates: int, **asked: Any) -> TopItems:
    index.index.nprobe, index.num_candidates = probes, candidates
    return index.top_items(**asked)


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    clock = CLOCKS[arguments.clock]
    made = world(num_items=arguments.items, num_users=arguments.users, width=arguments.width)
    asked = {"user_BD": made.user_BD, "k": arguments.k, "seen": made.seen}
    contestants: dict[str, Callable[[], TopItems]] = {
        "exact": partial(top_items, item_VD=made.item_VD, bias_V=None, **asked)
    }
    figures: dict[str, float] = {}
    for codes in [None, *arguments.codes]:
        name, began = codes or OWN, clock()
        config = ApproximateConfig(num_lists=arguments.lists, codes=codes)
        index = ApproximateIndex.build(item_VD=made.item_VD, config=config)
        figures |= {f"{name}_build_s": clock() - began, f"{name}_index_mib": index_mib(index)}
        print(
            f"{name}: built in {figures[f'{name}_build_s']:.0f} s of {arguments.clock} time, "
            f"{figures[f'{name}_index_mib']:,.0f} MiB",
            flush=True,
        )
        for probes, candidates in product(arguments.probes, arguments.candidates):
            contestants[f"{name}_{probes}_{candidates}"] = partial(
                answered, index, probes=probes, candidates=candidates, **asked
            )
    exact = contestants["exact"]()
    for name in list(contestants)[1:]:
        figures[f"{name}_recall_at_{arguments.k}"] = recall(contestants[name](), exact)
    load = os.getloadavg()[0]
    taken = timed(contestants, rounds=arguments.rounds, clock=clock)
    print(
        f"{arguments.items:,} items, width {arguments.width}, {arguments.users} users, k {arguments.k}, "
        f"{arguments.threads} threads, {arguments.clock} time; "
        f"load {load:.1f} before and {os.getloadavg()[0]:.1f} after; code, lists, candidates a user:"
    )
    exact_s = statistics.median(taken["exact"])
    for name, times in taken.items():
        median_s = statistics.median(times)
        figures |= {
            f"{name}_ms_per_user": 1e3 * median_s / arguments.users,
            f"{name}_ratio": exact_s / median_s,
        }
        print(
            f"{name:<22} {1e3 * median_s / arguments.users:>9.3f} ms a user {exact_s / median_s:>7.1f} times "
            f"as fast as exact, recall {figures.get(f'{name}_recall_at_{arguments.k}', 1):.4f}"
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--users", type=int, default=512)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--lists", type=int)
    parser.add_argument("--probes", type=int, nargs="+", default=[ApproximateConfig.num_probes])
    parser.add_argument("--candidates", type=int, nargs="+", default=[ApproximateConfig.num_candidates])
    parser.add_argument("--codes", nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    faiss_module().omp_set_num_threads(arguments.threads)
    print(json.dumps({name: round(value, 4) for name, value in measure(arguments).items()}))


if __name__ == "__main__":
    main()
