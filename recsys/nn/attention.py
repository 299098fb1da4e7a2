"""Causal attention from plain linear layers and scaled_dot_product_attention: the one front door.

Legend: B rows, L positions, D width, N heads, H width of a head, T positions of packed rows.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from recsys.batch import Packing
from recsys.nn.causal import causal_attention, suits
from recsys.nn.dropout import Dropout
from recsys.nn.linear import Linear, product_dtype
from recsys.nn.norm import RMSNorm
from recsys.nn.varlen import varlen_attention


def attend(
    query_BLD: Tensor,
    key_BLD: Tensor,
    value_BLD: Tensor,
    *,
    num_heads: int,
    mask_BLL: Tensor | None = None,
    rotary: Rotary | None = None,
    packing: Packing | None = None,
) -> Tensor:
    """Multi-head attention, (B, L, D). Causal without a mask; mask_BLL is True where a key is visible. With a
    packing all are (1, T, D).
    """

    def heads(x_BLD: Tensor) -> Tensor:
        B, L, D = x_BLD.shape
        return x_BLD.view(B, L, num_heads, D // num_heads)

    query_BLNH, key_BLNH = heads(query_BLD), heads(key_BLD)
    if rotary is not None:
        position_L = None if packing is None else packing.position_T
        query_BLNH, key_BLNH = rotary(query_BLNH, position_L), rotary(key_BLNH, position_L)
    mixed_BNLH = fused_attention(
        query_BLNH.transpose(1, 2),
        key_BLNH.transpose(1, 2),
        heads(value_BLD).transpose(1, 2),
        mask=None if mask_BLL is None else mask_BLL[:, None],
        packing=packing,
    )
    return mixed_BNLH.transpose(1, 2).flatten(2)


def fused_attention(
    query_BNLH: Tensor,
    key_BNLH: Tensor,
    value_BNLH: Tensor,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
    packing: Packing | None = None,
) -> Tensor:
    """The fastest kernel for the device; causal without a mask. Values may be wider than queries and keys. On
    processors in float32 whatever comes in: torch's backward in bf16 takes more than twice as long there.
    With a packing all are (1, N, T, H), and each row sees itself alone.
    """
    dtype, is_causal = value_BNLH.dtype, mask is None
    width = query_BNLH.shape[-1]
    scale = width**-0.5 if scale is None else scale
    if packing is None and is_causal and suits(value_BNLH):
        return causal_attention(query_BNLH, key_BNLH, value_BNLH, scale=scale)
    if (beyond := value_BNLH.shape[-1] - width) > 0:  # torch's want all widths equal
        query_BNLH, key_BNLH = F.pad(query_BNLH, (0, beyond)), F.pad(key_BNLH, (0, beyond))
    if packing is not None:
        assert is_causal, "packed rows have no mask of their own"
        query, key, value = (each[0].transpose(0, 1) for each in (query_BNLH, key_BNLH, value_BNLH))
        return varlen_attention(query, key, value, packing, scale=scale).transpose(0, 1)[None]
    if query_BNLH.device.type != "cpu":
        query_BNLH, key_BNLH = query_BNLH.to(dtype), key_BNLH.to(dtype)
        return F.scaled_dot_product_attention(
            query_BNLH, key_BNLH, value_BNLH, attn_mask=mask, is_causal=is_causal, scale=scale
        )
    with torch.autocast("cpu", enabled=False):
        query_BNLH, key_BNLH, value_BNLH = query_BNLH.float(), key_BNLH.float(), value_BNLH.float()
        mixed_BNLH = F.scaled_dot_product_attention(
            query_BNLH, key_BNLH, value_BNLH, attn_mask=mask, is_causal=is_causal, scale=scale
        )
    return mixed_BNLH.to(dtype)


class Rotary(nn.Module):
    """Turns each pair of a head's components by an angle that grows with the position, so that a query and a
    key see how far apart they are (Su et al., RoFormer, 2021, eq. 34).
    """

    cos_LH: Tensor
    sin_LH: Tensor

    def __init__(self, *, head_width: int, max_positions: int) -> None:
        super().__init__()
        frequency_H = 10_000.0 ** (-torch.arange(0, head_width, 2) / head_width)
        angle_LH = torch.outer(torch.arange(max_positions), frequency_H)
        cos_LH, sin_LH = angle_LH.cos(), angle_LH.sin()
        self.register_buffer("cos_LH", torch.cat([cos_LH, cos_LH], 1), persistent=False)
        self.register_buffer("sin_LH", torch.cat([-sin_LH, sin_LH], 1), persistent=False)

    def forward(self, x_BLNH: Tensor, position_L: Tensor | None = None) -> Tensor:
        """Pairs are component h of the first half and h of the second. In float32 whatever comes in.
        `position_L`: where they do not count from 0.
        """
        _, L, N, H = x_BLNH.shape  # of one layout all, so that the products run over whole rows
        tables = (t[:L] if position_L is None else t[position_L] for t in (self.cos_LH, self.sin_LH))
        cos_LNH, sin_LNH = (table[:, None].expand(L, N, H).contiguous() for table in tables)
        x_BLNH = x_BLNH.float().contiguous()
        return torch.addcmul(x_BLNH * cos_LNH, x_BLNH.roll(H // 2, -1), sin_LNH)


class GatedBlock(nn.Module):
    """Pre-norm self-attention and SwiGLU feed-forward; the attention's residual is gated by its own input."""

    def __init__(self, *, width: int, num_heads: int, dropout: float, rotary: Rotary | None = None) -> None:
        super().__init__()
        self.num_heads, self.rotary = num_heads, rotary
        self.norm_attention = RMSNorm(width)
        self.norm_feed = RMSNorm(width)
        self.qkv = Linear(width, 3 * width)
        self.gate = Linear(width, width)
        self.out = Linear(width, width)
        self.up = Linear(width, 4 * width)
        self.down = Linear(2 * width, width)
        self.dropout = Dropout(dropout)

    def forward(self, hidden_BLD: Tensor, packing: Packing | None = None) -> Tensor:
        """(B, L, D) -> (B, L, D); position t sees positions up to t. With a packing both are (1, T, D)."""
        normed_BLD = self.norm_attention(hidden_BLD).to(product_dtype(hidden_BLD))  # once for both who ask
        query_BLD, key_BLD, value_BLD = self.qkv(normed_BLD).chunk(3, -1)
        mixed_BLD = attend(
            query_BLD, key_BLD, value_BLD, num_heads=self.num_heads, rotary=self.rotary, packing=packing
        )
        hidden_BLD = hidden_BLD + self.dropout(self.out(mixed_BLD) * torch.sigmoid(self.gate(normed_BLD)))
        value_BLF, gate_BLF = self.up(self.norm_feed(hidden_BLD)).chunk(2, -1)
        return hidden_BLD + self.dropout(self.down(F.silu(gate_BLF) * value_BLF))
