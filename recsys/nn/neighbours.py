"""What a user's own items say of items new to the user, by fixed item-to-item weights.

Vectors of few components hold what groups of items share and lose which one item goes with another; a short
list of neighbours keeps it. Legend: Q queries, V items, K neighbours of an item.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from recsys.batch import Catalogue
from recsys.nn.own_items import OwnItems
from recsys.schema import PAD


class Neighbours(nn.Module):
    """The weights of an item's neighbours, summed over those the prefix holds; 0 until they are filled in."""

    item_VK: Tensor
    weight_VK: Tensor

    def __init__(self, *, capacity: int, num_neighbours: int) -> None:
        super().__init__()
        shape = (capacity + 1, num_neighbours)
        self.register_buffer("item_VK", torch.full(shape, PAD))
        self.register_buffer("weight_VK", torch.zeros(shape))

    def fill(self, item_VK: Tensor, weight_VK: Tensor) -> None:
        """Each item's neighbours (item_index) and weights, PAD and 0 where there are fewer."""
        self.item_VK[: len(item_VK)] = item_VK
        self.weight_VK[: len(weight_VK)] = weight_VK

    def forward(self, own: OwnItems, catalogue: Catalogue) -> Tensor:
        """(Q, V), 0 for own items. A neighbour that the catalogue at hand lacks is nobody's own item."""
        num_items = len(catalogue.item_V)
        wanted_VK = self.item_VK[catalogue.item_V]
        row_VK = torch.searchsorted(catalogue.item_V, wanted_VK).clamp(max=num_items - 1)
        weight_VK = self.weight_VK[catalogue.item_V] * (catalogue.item_V[row_VK] == wanted_VK)
        own_QV = own.among(num_items)
        said_VQ = F.embedding_bag(
            row_VK, own_QV.T.float().contiguous(), per_sample_weights=weight_VK, mode="sum"
        )
        return said_VQ.T.masked_fill(own_QV, 0.0)
