"""Optimizers that touch the rows of a step and no others. Sums over duplicate rows are taken before.

Legend: N rows of a table, U distinct rows of the step, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

State = dict[str, Tensor]


class RowOptimizer(Protocol):
    """State of a table's own dtype and device, made at once: a checkpoint always holds all of it."""

    @property
    def lr(self) -> float: ...

    def new_state(self, weight_ND: Tensor) -> State: ...

    def update(
        self, weight_ND: Tensor, state: State, row_U: Tensor, gradient_UD: Tensor, *, lr: float
    ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class SGD:
    lr: float

    def new_state(self, weight_ND: Tensor) -> State:
        return {}

    def update(
        self, weight_ND: Tensor, state: State, row_U: Tensor, gradient_UD: Tensor, *, lr: float
    ) -> None:
        weight_ND.index_add_(0, row_U, gradient_UD, alpha=-lr)


@dataclass(frozen=True, kw_only=True)
class RowWiseAdagrad:
    """Adagrad (Duchi et al. 2011) with one sum a row, of the mean square over its D gradients."""

    lr: float
    eps: float = 1e-8

    def new_state(self, weight_ND: Tensor) -> State:
        return {"sum": weight_ND.new_zeros(len(weight_ND))}

    def update(
        self, weight_ND: Tensor, state: State, row_U: Tensor, gradient_UD: Tensor, *, lr: float
    ) -> None:
        sum_U = state["sum"][row_U] + gradient_UD.square().mean(1)
        state["sum"][row_U] = sum_U
        weight_ND.index_add_(0, row_U, gradient_UD / (sum_U.sqrt() + self.eps)[:, None], alpha=-lr)


@dataclass(frozen=True, kw_only=True)
class SparseAdam:
    """Adam (Kingma and Ba 2015) whose moments of a row move only when the row has a gradient, as
    torch.optim.SparseAdam has it. Holds two more tables.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8

    def new_state(self, weight_ND: Tensor) -> State:
        return {
            "step": weight_ND.new_zeros(()),
            "mean": torch.zeros_like(weight_ND),
            "square": torch.zeros_like(weight_ND),
        }

    def update(
        self, weight_ND: Tensor, state: State, row_U: Tensor, gradient_UD: Tensor, *, lr: float
    ) -> None:
        state["step"] += 1
        step = int(state["step"])
        first, second = self.betas
        mean_UD = torch.lerp(state["mean"][row_U], gradient_UD, 1 - first)
        square_UD = torch.lerp(state["square"][row_U], gradient_UD.square(), 1 - second)
        state["mean"][row_U], state["square"][row_U] = mean_UD, square_UD
        rate = lr * math.sqrt(1 - second**step) / (1 - first**step)
        weight_ND.index_add_(0, row_U, mean_UD / (square_UD.sqrt() + self.eps), alpha=-rate)


ROW_OPTIMIZERS: dict[str, Callable[..., RowOptimizer]] = {
    "sgd": SGD,
    "rowwise_adagrad": RowWiseAdagrad,
    "sparse_adam": SparseAdam,
}
