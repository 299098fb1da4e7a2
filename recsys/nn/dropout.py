"""Dropout whose random bits are cheap on a processor, where one draw an element costs as much as a block."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

_LEVELS = 1 << 16  # shares are kept to one in so many


class Dropout(nn.Dropout):
    """`nn.Dropout`; on a processor in training sixteen random bits decide on an element, drawn 64 at a time
    from torch's generator, and the share that is dropped is rounded to 1 / 65,536.
    """

    def forward(self, values: Tensor) -> Tensor:
        dropped = round(self.p * _LEVELS)
        if not self.training or values.device.type != "cpu" or not 0 < dropped < _LEVELS:
            return super().forward(values)
        count = values.numel()
        bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = bits.view(torch.int16)[:count].view(values.shape) >= dropped - _LEVELS // 2
        return values * kept.to(values.dtype).mul_(_LEVELS / (_LEVELS - dropped))
