"""Causal attention from plain linear layers and scaled_dot_product_attention: the one front door.

Legend: B rows, L positions, D width, N heads, H width of a head.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


def attend(
    query_BLD: Tensor, key_BLD: Tensor, value_BLD: Tensor, *, num_heads: int, mask_BLL: Tensor | None = None
) -> Tensor:
    """Multi-head attention, (B, L, D). Causal without a mask; mask_BLL is True where a key is visible."""

    def heads(x_BLD: Tensor) -> Tensor:
        B, L, D = x_BLD.shape
        return x_BLD.view(B, L, num_heads, D // num_heads).transpose(1, 2)

    mixed_BNLH = F.scaled_dot_product_attention(
        heads(query_BLD),
        heads(key_BLD),
        heads(value_BLD),
        attn_mask=None if mask_BLL is None else mask_BLL[:, None],
        is_causal=mask_BLL is None,
    )
    return mixed_BNLH.transpose(1, 2).flatten(2)


class GatedBlock(nn.Module):
    """Pre-norm self-attention and SwiGLU feed-forward; the attention's residual is gated by its own input."""

    def __init__(self, *, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention = nn.RMSNorm(width)
        self.norm_feed = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.gate = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D); position t sees positions up to t."""
        normed_BLD = self.norm_attention(hidden_BLD)
        query_BLD, key_BLD, value_BLD = self.qkv(normed_BLD).chunk(3, -1)
        mixed_BLD = attend(query_BLD, key_BLD, value_BLD, num_heads=self.num_heads)
        hidden_BLD = hidden_BLD + self.dropout(self.out(mixed_BLD) * torch.sigmoid(self.gate(normed_BLD)))
        value_BLF, gate_BLF = self.up(self.norm_feed(hidden_BLD)).chunk(2, -1)
        return hidden_BLD + self.dropout(self.down(F.silu(gate_BLF) * value_BLF))
