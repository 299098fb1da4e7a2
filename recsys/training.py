"""Optimizer and schedule factories, and the record of a run."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from recsys.schema import InputError
from recsys.settings import check_range


class AdamW:
    """Factory of a fused AdamW; `weight_decay` holds for matrices and tables only (grouped by the module)."""

    def __init__(
        self, *, lr: float, weight_decay: float = 0.01, betas: tuple[float, float] = (0.9, 0.98)
    ) -> None:
        check_range("optimizer.lr", lr, above=0)
        check_range("optimizer.weight_decay", weight_decay, least=0)
        if not isinstance(betas, (list, tuple)) or len(betas) != 2:
            raise InputError(f"optimizer.betas must be a pair of numbers, not {betas!r}")
        for beta in betas:
            check_range("optimizer.betas", beta, least=0, below=1)
        self.lr, self.weight_decay, self.betas = lr, weight_decay, (betas[0], betas[1])

    def __call__(self, groups: Iterable[Any]) -> torch.optim.Optimizer:
        optimizer = torch.optim.AdamW(
            groups, lr=self.lr, weight_decay=self.weight_decay, betas=self.betas, fused=True
        )
        # A fused step offers to undo loss scaling itself, and Lightning then refuses to clip before it.
        # Without the offer gradients are unscaled beforehand, where there is any scaling.
        optimizer._step_supports_amp_scaling = False
        return optimizer


class WarmupCosine:
    """Factory of a schedule: linear warm-up, then a cosine down to `floor` of the learning rate."""

    def __init__(self, *, warmup_steps: int = 50, floor: float = 0.02) -> None:
        check_range("scheduler.warmup_steps", warmup_steps, least=0)
        check_range("scheduler.floor", floor, least=0, most=1)
        self.warmup_steps, self.floor = warmup_steps, floor

    def __call__(self, optimizer: torch.optim.Optimizer, num_steps: int) -> torch.optim.lr_scheduler.LambdaLR:
        def factor(step: int) -> float:
            if step < self.warmup_steps:
                return (step + 1) / self.warmup_steps
            done = min(1.0, (step - self.warmup_steps) / max(num_steps - self.warmup_steps, 1))
            return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def git_commit() -> str | None:
    """Commit of the checkout this code runs from; None in a wheel."""
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
