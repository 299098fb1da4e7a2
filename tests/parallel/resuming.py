"""Runs that are cut off and go on, on as many ranks or on others, beside the unbroken ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.parallel.ranks import on_ranks

STEPS, CUT_OFF, DROPOUT = 50, 20, 0.3
KINDS: dict[str, dict[str, Any]] = {
    **{strategy: {"strategy": strategy} for strategy in ("ddp", "zero1", "zero2", "zero3")},
    "ddp sharded": {"strategy": "ddp", "table_optimizer": "sparse_adam"},
    "zero2 sharded": {"strategy": "zero2", "table_optimizer": "sparse_adam"},
    "zero3 sharded": {"strategy": "zero3", "table_optimizer": "rowwise_adagrad"},
}
MOVES = ((2, 2), (2, 1), (1, 2))
WITH_DROPOUT = ("ddp", "zero2", "zero2 sharded")  # of those that go on on other ranks
NOISE_OF = {False: "ddp", True: "ddp sharded"}  # by whether tables are sharded; losses are those of ZeRO
SEEDS = range(6)


class Run(NamedTuple):
    losses: torch.Tensor  # of each step, mean over the ranks
    samples: list[list[int]]  # of each step's global batch, sorted
    weights: dict[str, torch.Tensor]  # at the end


class Resumes:
    """Runs by (kind, dropout, what): `whole` and other `seed S` on two ranks, `whole on 1`, `cut off on N`,
    `N to M`."""

    def __init__(self, runs: dict[tuple[str, float, str], Run]) -> None:
        self.runs = runs

    def difference(self, kind: str, dropout: float, before: int, after: int) -> float:
        """Largest difference of a step's loss to that of the run never cut off, on the ranks it began on."""
        whole = self.runs[kind, dropout, "whole" if before == 2 else "whole on 1"].losses
        parts = (f"cut off on {before}", f"{before} to {after}")
        found = torch.cat([self.runs[kind, dropout, part].losses for part in parts])
        return float((found - whole).abs().max())

    def weight_difference(self, kind: str, before: int, after: int) -> float:
        """Largest difference of a weight at the end to the unbroken run's, without dropout. Biases of keys
        are left out: softmax gives them no gradient, and of its rounding Adam makes whole steps.
        """
        whole, resumed = (self.runs[kind, 0.0, what].weights for what in ("whole", f"{before} to {after}"))
        assert whole.keys() == resumed.keys()
        differences = []
        for name, weight in whole.items():
            other = resumed[name]
            if name.endswith("qkv.bias"):
                weight, other = (torch.cat([*bias.chunk(3)[::2]]) for bias in (weight, other))
            if not name.endswith("key.bias"):
                differences.append((weight - other).abs().max())
        return float(torch.stack(differences).max())

    def later_loss(self, kind: str, what: str) -> float:
        """Median loss of the steps after the cut, with dropout. In a mean the spend of a few steps, an
        exponential of what is trained, would outweigh all others.
        """
        return float(self.runs[kind, DROPOUT, what].losses[-(STEPS - CUT_OFF) :].median())

    def noise(self, kind: str) -> list[float]:
        """`later_loss` of unbroken runs that differ in the seed of dropout alone."""
        of = NOISE_OF["sharded" in kind]
        return [self.later_loss(of, "whole" if not seed else f"seed {seed}") for seed in SEEDS]


def moves(kind: str) -> list[tuple[float, int, int]]:
    """(dropout, ranks before, ranks after) of all that are run."""
    return [
        (d, *move)
        for d in (0.0, DROPOUT)
        for move in MOVES
        if not d or move == (2, 2) or kind in WITH_DROPOUT
    ]


def resumes(place: Path, kinds: tuple[str, ...] = tuple(KINDS)) -> Resumes:
    """In three rounds of processes: on two ranks, on one, and again on two."""
    rounds: list[dict[tuple[str, float, str], dict[str, Any]]] = [{}, {}, {}]
    for kind in kinds:
        for dropout in (0.0, DROPOUT):
            case = {"function": "tests.parallel.training:train", "optimizer": "adam", "steps": STEPS}
            case |= KINDS[kind] | {"dropout": dropout}
            paths = {n: str(place / f"{kind}-{dropout}-{n}-step-{CUT_OFF}.ckpt") for n in (1, 2)}
            mine = [move[1:] for move in moves(kind) if move[0] == dropout]
            rounds[0][kind, dropout, "whole"] = case
            if dropout and kind in NOISE_OF.values():
                rounds[0] |= {(kind, dropout, f"seed {seed}"): case | {"seed": seed} for seed in SEEDS[1:]}
            for before, after in mine:
                first = case | {"save": paths[before], "save_at": CUT_OFF, "num_ranks": before}
                then = case | {"resume": paths[before], "num_ranks": after}
                if before == 1:
                    rounds[1][kind, dropout, "whole on 1"] = case | {"num_ranks": 1}
                began, ended = {(2, 2): (0, 0), (2, 1): (0, 1), (1, 2): (1, 2)}[before, after]
                rounds[began][kind, dropout, f"cut off on {before}"] = first
                rounds[ended][kind, dropout, f"{before} to {after}"] = then
    runs = {}
    for number, (num_ranks, cases) in enumerate(zip((2, 1, 2), rounds, strict=True)):
        kept = on_ranks(num_ranks, list(cases.values()), place / f"round {number}", timeout_s=1500)
        runs |= {key: _run(ranks) for key, ranks in zip(cases, kept, strict=True)}
    return Resumes(runs)


def _run(ranks: list[dict[str, Any]]) -> Run:
    steps = zip(*(rank["samples"] for rank in ranks), strict=True)
    return Run(
        losses=torch.tensor([rank["losses"] for rank in ranks]).mean(0),
        samples=[sorted(name for share in shares for name in share) for shares in steps],
        weights=ranks[0]["weights"],
    )
