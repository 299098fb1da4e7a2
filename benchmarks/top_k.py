"""The K best items of a whole catalogue: how fast, beside faiss, plain torch and the processor's own limit.

`python -m benchmarks.top_k [--users 256 1024]` times them in turn, round after round, so that whatever else
the machine does falls on all of them, prints a table of medians and ends with one line of JSON. On a busy
machine, `--threads 1 --clock processor` counts only the time that the process had a processor. The limit is
the best rate that any product of two square float32 matrices reached in the same run, by torch.matmul or by
oneDNN. faiss (`pip install faiss-cpu`) is left out where it is not installed; it knows no seen items, so it
is asked for that many items more and the seen ones are dropped from its answer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from recsys.metrics.ragged import Ragged
from recsys.retrieval.exact import top_items

SQUARES = (1024, 2048, 4096)
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
PAUSE_S = 0.02  # for the threads of one library to go to sleep before those of the next begin
OURS, TORCH, FAISS, HIDDEN = "recsys", "torch, whole matrix", "faiss IndexFlatIP", ", seen hidden"

Answer = tuple[np.ndarray, np.ndarray]  # scores, items


class Setting:
    """Random vectors, and the same question put to each."""

    def __init__(self, arguments: argparse.Namespace, num_users: int) -> None:
        random = torch.Generator().manual_seed(0)
        self.k, self.num_seen = arguments.k, arguments.seen
        self.item_VD = torch.randn(arguments.items + 1, arguments.width, generator=random)
        self.user_BD = torch.randn(num_users, arguments.width, generator=random)
        seen_BE = torch.randint(1, arguments.items + 1, (num_users, arguments.seen), generator=random)
        self.seen = Ragged(np.arange(num_users + 1) * arguments.seen, seen_BE.numpy().ravel())
        self.gflop = 2 * num_users * arguments.items * arguments.width / 1e9

    def ours(self, *, hidden: bool) -> Answer:
        seen = self.seen if hidden else None
        score_BK, item_BK = top_items(user_BD=self.user_BD, item_VD=self.item_VD, k=self.k, seen=seen)
        return score_BK.numpy(), item_BK.numpy()

    def torch(self, *, hidden: bool) -> Answer:
        score_BV = self.user_BD @ self.item_VD.T
        score_BV[:, 0] = -torch.inf
        if hidden:
            score_BV[self.seen.row_of_entry, self.seen.values] = -torch.inf
        score_BK, item_BK = score_BV.topk(self.k)
        return score_BK.numpy(), item_BK.numpy()

    def faiss(self, index: Any, *, hidden: bool) -> Answer:
        """The index holds all items but the padding."""
        score_BN, item_BN = index.search(self.user_BD.numpy(), self.k + self.num_seen * hidden)
        item_BN += 1
        if not hidden:
            return score_BN, item_BN
        row_B1, num_items = np.arange(len(item_BN))[:, None], len(self.item_VD)
        is_seen_BN = np.isin(
            row_B1 * num_items + item_BN, self.seen.row_of_entry * num_items + self.seen.values
        )
        first_BK = np.argsort(is_seen_BN, axis=1, kind="stable")[:, : self.k]
        return np.take_along_axis(score_BN, first_BK, 1), np.take_along_axis(item_BN, first_BK, 1)


def faiss_index(item_VD: torch.Tensor, threads: int) -> Any:
    """None where faiss is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    faiss.omp_set_num_threads(threads)
    faiss.cvar.distance_compute_blas_threshold = 20  # by default, small batches take a slower way
    index = faiss.IndexFlatIP(item_VD.shape[1])
    index.add(item_VD[1:].numpy())
    return index


def squares() -> dict[str, tuple[float, Callable[[], Any]]]:
    """Name -> (GFLOP, product), as torch multiplies by itself and by oneDNN."""
    products: dict[str, tuple[float, Callable[[], Any]]] = {}
    for size in SQUARES:
        one, other, gflop = torch.randn(size, size), torch.randn(size, size), 2 * size**3 / 1e9
        products[f"matmul_{size}"] = gflop, partial(torch.matmul, one, other)
        if torch.backends.mkldnn.is_available():
            products[f"onednn_{size}"] = gflop, partial(F.linear, one.to_mkldnn(), other)
    return products


def timed(
    contestants: dict[str, Callable[[], Any]], *, rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each in every round, after one round that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            time.sleep(PAUSE_S)
            began = clock()
            run()
            if number:
                taken[name].append(clock() - began)
    return taken


def check_same(answers: dict[str, Answer]) -> None:
    """Scores up to the order of their sums."""
    for name, (score_BK, _) in answers.items():
        np.testing.assert_allclose(score_BK, answers[OURS][0], atol=1e-4, err_msg=name)


def measure(arguments: argparse.Namespace, num_users: int, figures: dict[str, float]) -> None:
    setting = Setting(arguments, num_users)
    index = faiss_index(setting.item_VD, arguments.threads)
    contestants: dict[str, Callable[[], Answer]] = {}
    for hidden in (False, True):
        asked = {OURS: partial(setting.ours, hidden=hidden), TORCH: partial(setting.torch, hidden=hidden)}
        if index is not None:
            asked[FAISS] = partial(setting.faiss, index, hidden=hidden)
        check_same({name: ask() for name, ask in asked.items()})
        contestants |= {name + HIDDEN * hidden: ask for name, ask in asked.items()}
    products = squares()
    load = os.getloadavg()[0]
    taken = timed(
        contestants | {name: product for name, (_, product) in products.items()},
        rounds=arguments.rounds,
        clock=CLOCKS[arguments.clock],
    )
    rates = {name: gflop / min(taken[name]) for name, (gflop, _) in products.items()}
    peak = max(rates.values())
    matmul_peak = max(rate for name, rate in rates.items() if name.startswith("matmul"))
    print(
        f"\n{num_users:,} users, {arguments.items:,} items, width {arguments.width}, k {arguments.k}, "
        f"{arguments.seen} seen items a user, {arguments.threads} threads, {arguments.clock} time; "
        f"load {load:.1f} before and {os.getloadavg()[0]:.1f} after; "
        f"peak {peak:.0f} GFLOP/s, {matmul_peak:.0f} by torch.matmul"
    )
    figures |= {f"peak_gflops_{num_users}": peak, f"matmul_peak_gflops_{num_users}": matmul_peak}
    figures[f"load_{num_users}"] = load
    print_table({name: taken[name] for name in contestants}, setting, peak, figures)


def print_table(
    taken: dict[str, list[float]], setting: Setting, peak: float, figures: dict[str, float]
) -> None:
    print(f"{'':<36} median ms  best ms GFLOP/s  of peak over recsys")
    for name, times in taken.items():
        ours_s = statistics.median(taken[OURS + HIDDEN * name.endswith(HIDDEN)])
        median_s, best_s = statistics.median(times), min(times)
        rate = setting.gflop / median_s
        print(
            f"{name:<36} {median_s * 1e3:>9.1f} {best_s * 1e3:>8.1f} {rate:>7.0f} {rate / peak:>8.0%} "
            f"{median_s / ours_s:>10.2f}x"
        )
        key = f"{name}_{len(setting.user_BD)}".lower().replace(",", "").replace(" ", "_")
        figures |= {f"{key}_ms": median_s * 1e3, f"{key}_best_ms": best_s * 1e3}
        figures |= {f"{key}_of_peak": rate / peak, f"{key}_over_recsys": median_s / ours_s}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--users", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--seen", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures: dict[str, float] = {}
    for num_users in arguments.users:
        measure(arguments, num_users, figures)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
