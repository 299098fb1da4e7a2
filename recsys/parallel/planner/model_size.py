"""Parameters by name without their values: the model is built on the meta device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from recsys.nn.user_model import UserModel, UserModelConfig

TABLES = ("item_tower.lookup.weight", "item_bias.weight")  # a row an item: what may be sharded by rows


@dataclass(frozen=True)
class ModelSize:
    """Shapes in the model's own order; buffers are the copies every rank keeps."""

    shapes: dict[str, tuple[int, ...]]
    buffer_bytes: int

    def dense(self) -> dict[str, tuple[int, ...]]:
        """Without the item tables."""
        return {name: shape for name, shape in self.shapes.items() if name not in TABLES}

    @property
    def num_dense(self) -> int:
        return sum(map(math.prod, self.dense().values()))

    @property
    def num_parameters(self) -> int:
        return sum(map(math.prod, self.shapes.values()))

    @property
    def table_rows(self) -> int:
        return self.shapes[TABLES[0]][0]

    @property
    def table_columns(self) -> int:
        """Of all item tables together."""
        return sum(self.shapes[name][1] for name in TABLES)


def on_meta(config: UserModelConfig) -> UserModel:
    """The model with shapes and no memory."""
    with torch.device("meta"):
        return UserModel(config)


def model_size(config: UserModelConfig) -> ModelSize:
    model = on_meta(config)
    return ModelSize(
        shapes={name: tuple(p.shape) for name, p in model.named_parameters()},
        buffer_bytes=sum(b.numel() * b.element_size() for b in model.buffers()),
    )
