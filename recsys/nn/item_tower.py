"""Items as vectors: an id embedding plus content, so that an item nobody bought yet has a vector too.

Legend: V items (row 0 is padding), D width, F categorical fields, T words.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn as nn
from torch import Tensor

from recsys.batch import Catalogue
from recsys.nn.learned import learned
from recsys.nn.tables import ItemTable


@dataclass(frozen=True, kw_only=True)
class ItemTowerConfig:
    """Sizes come from the tables' metadata; capacity is the rows of the id table, growth included."""

    capacity: int
    field_sizes: tuple[int, ...]
    num_numeric: int
    num_tokens: int
    width: int
    id_dropout: float = 0.1


class ItemTower(nn.Module):
    """`lookup` maps item_index to id vectors."""

    def __init__(self, *, config: ItemTowerConfig, lookup: ItemTable) -> None:
        super().__init__()
        self.config, self.lookup = config, lookup
        self.fields = nn.ModuleList(
            nn.Embedding(s + 1, config.width, padding_idx=0) for s in config.field_sizes
        )
        self.words = nn.Embedding(config.num_tokens + 1, config.width, padding_idx=0)
        self.numeric = nn.Linear(config.num_numeric, config.width, bias=False) if config.num_numeric else None
        for table in (*self.fields, self.words):
            nn.init.normal_(table.weight, std=0.03)
            nn.init.zeros_(table.weight[0])  # type: ignore[arg-type]

    def content(self, catalogue: Catalogue) -> Tensor:
        """(V, D): what is known of each item without its id."""
        tokens_VT = learned(catalogue.tokens_VT, self.words)
        count_V1 = (tokens_VT > 0).sum(1, keepdim=True).clamp(min=1)
        content_VD = self.words(tokens_VT).sum(1) / count_V1.sqrt()
        for k, table in enumerate(self.fields):
            content_VD = content_VD + table(learned(catalogue.categorical_VF[:, k], table))
        return content_VD if self.numeric is None else content_VD + self.numeric(catalogue.numeric_VN)

    def forward(self, catalogue: Catalogue) -> tuple[Tensor, Tensor]:
        """(id + content, content), each (V, D). Ids are dropped at random in training, unseen ids always."""
        content_VD = self.content(catalogue)
        keep_V = catalogue.in_training_V
        if self.training and self.config.id_dropout > 0:
            keep_V = keep_V & (torch.rand(len(keep_V), device=keep_V.device) >= self.config.id_dropout)
        id_VD = self.lookup(catalogue.item_V).to(content_VD.dtype)
        return id_VD * keep_V[:, None] + content_VD, content_VD
