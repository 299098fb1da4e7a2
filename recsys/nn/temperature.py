"""What divides a cosine, so that it can tell items apart."""

from __future__ import annotations

import math

import torch
import torch.nn as nn
from torch import Tensor


class Temperature(nn.Module):
    """Divides a cosine by what is learned. A module, since ZeRO-3 gathers parameters module by module."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor([math.log(start)]))

    def forward(self, cosine: Tensor) -> Tensor:
        return cosine * torch.exp(-self.log)
