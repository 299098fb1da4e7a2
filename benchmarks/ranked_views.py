"""Ranking users for `evaluate` and validation: from parts of the scores, and from all of them.

`python -m benchmarks.ranked_views [--items 20000 100000 1000000]` ranks 128 users over random vectors, the
items of their histories hidden, both ways in turn, and ends with one line of JSON: medians in milliseconds,
their ratio, how long the first users of a catalogue took in parts (it is put in another order once), by how
many MiB a process of its own grew the one way and the other, and the share of places where both lists name
the same item (scores differ in their last digits).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

import recsys.entry  # noqa: F401  (memory and threads as every command has them)
from benchmarks.contender import resident_mib
from recsys.evaluation.scoring import ScoredUsers
from recsys.evaluation.view_ranker import ViewRanker
from recsys.evaluation.views import View
from recsys.metrics.ragged import Ragged
from recsys.nn.own_items import OwnItems
from recsys.nn.user_model import LinearScores

NUM_USERS, NUM_OWN, WIDTH = 128, 100, 65


class Setting:
    """Users with a history each, as `score_users` hands them on."""

    def __init__(self, num_items: int) -> None:
        random = torch.Generator().manual_seed(0)
        self.user_BS = torch.randn(NUM_USERS, WIDTH, generator=random)
        self.item_VS = torch.randn(num_items + 1, WIDTH, generator=random)
        self.term_V = torch.zeros(num_items + 1)
        self.term_V[0] = -torch.inf
        self.own_BO = torch.randint(1, num_items + 1, (NUM_USERS, NUM_OWN), generator=random)
        self.rows = np.arange(NUM_USERS)
        targets = Ragged(np.arange(NUM_USERS + 1), np.ones(NUM_USERS, np.int64))
        everyone = View("all", self.rows, targets, np.arange(num_items + 1) > 0, hides_seen=True)
        seen = Ragged(np.arange(NUM_USERS + 1) * NUM_OWN, self.own_BO.numpy().ravel())
        self.ranker = ViewRanker([everyone], seen)

    def parts(self) -> np.ndarray:
        known_BO = torch.ones_like(self.own_BO, dtype=torch.bool)
        rows = torch.from_numpy(self.rows)
        own = OwnItems(rows, rows, self.own_BO, known_BO, self.own_BO, known_BO.float(), counts_QL=known_BO)
        logit_BO = torch.einsum("bs,bos->bo", self.user_BS, self.item_VS[self.own_BO])
        linear = LinearScores(self.user_BS, self.user_BS, self.item_VS, self.term_V, own, logit_BO)
        return self._ranked(np.zeros((0, 0), np.float32), linear)

    def whole(self) -> np.ndarray:
        return self._ranked((self.user_BS @ self.item_VS.T + self.term_V).numpy(), None)

    def _ranked(self, score_BV: np.ndarray, linear: LinearScores | None) -> np.ndarray:
        chunk = ScoredUsers(self.rows, score_BV, score_BV, None, None, None, linear=linear)
        (found,) = self.ranker.ranked(chunk)
        return found.item_BK


def grown_mib(num_items: int, way: str) -> float:
    """Above what it held before, of a process in which nothing else was done."""
    setting = Setting(num_items)
    before = resident_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    getattr(setting, way)()
    return resident_mib("VmHWM") - before


def measured(num_items: int, rounds: int) -> dict[str, float]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        grown = {way: pool.submit(grown_mib, num_items, way).result() for way in ("parts", "whole")}
    setting = Setting(num_items)
    began = time.perf_counter()
    lists = {"parts": setting.parts()}
    first_ms = 1000 * (time.perf_counter() - began)
    lists["whole"] = setting.whole()
    spent_ms: dict[str, list[float]] = {way: [] for way in lists}
    for _ in range(rounds):
        for way, spent in spent_ms.items():
            began = time.perf_counter()
            getattr(setting, way)()
            spent.append(1000 * (time.perf_counter() - began))
    parts, whole = (statistics.median(spent) for spent in spent_ms.values())
    return {
        "items": num_items,
        "parts_ms": round(parts, 1),
        "whole_ms": round(whole, 1),
        "ratio": round(whole / parts, 2),
        "first_parts_ms": round(first_ms, 1),
        "parts_mib": round(grown["parts"]),
        "whole_mib": round(grown["whole"]),
        "same": float((lists["parts"] == lists["whole"]).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[20_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(json.dumps([measured(num_items, arguments.rounds) for num_items in arguments.items]))


if __name__ == "__main__":
    main()
