"""Indices a model has learned: those that came after its training count as unknown."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from recsys.schema import PAD


def learned(index: Tensor, table: nn.Module) -> Tensor:
    """`index` where the embedding has a row for it, else PAD."""
    assert isinstance(table, nn.Embedding)
    return torch.where(index < table.num_embeddings, index, PAD)
