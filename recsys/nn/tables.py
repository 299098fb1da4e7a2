"""Item tables as the model sees them: vectors by item_index, wherever their rows lie.

Legend: K asked indices, V items (row 0 is padding), D width.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn as nn
from torch import Tensor


class ItemTable(Protocol):
    """A plain embedding here, rows dealt over ranks in `parallel.tables`."""

    def __call__(self, index_K: Tensor, /) -> Tensor:
        """(K, D)."""

    def rows(self, start: int, stop: int) -> Tensor:
        """(stop - start, D) vectors of items start to stop, without gradient."""

    def start_from(self, vectors_VD: Tensor) -> None:
        """Give the first V items these vectors to start from; the others stay as they are."""


class ReplicatedTable(nn.Embedding):
    """Every device holds the whole table."""

    def __init__(self, *, num_rows: int, width: int, std: float) -> None:
        super().__init__(num_rows, width, padding_idx=0)
        if std == 0:
            nn.init.zeros_(self.weight)
        else:
            nn.init.normal_(self.weight, std=std)
            nn.init.zeros_(self.weight[0])  # type: ignore[arg-type]

    def rows(self, start: int, stop: int) -> Tensor:
        return self.weight.detach()[start:stop]

    @torch.no_grad()
    def start_from(self, vectors_VD: Tensor) -> None:
        self.weight[: len(vectors_VD)] = vectors_VD
