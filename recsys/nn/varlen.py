"""Causal attention over packed rows: one after another, without padding between them.

The kernel is FlashAttention's for rows of any length, which torch has for GPUs in half precision. Where it is
not to be had, and in other types, rows are padded, which gives the same.

Legend: B rows, T real positions of all rows, L positions of the longest, N heads, H width of a head.
"""

from __future__ import annotations

import functools
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.batch import Packing

_HALVES = (torch.bfloat16, torch.float16)
_WIDTHS = range(8, 257, 8)  # of a head, as the kernel takes them
_NEAR = 0.05  # of values drawn from a normal distribution, in bfloat16


def varlen_attention(
    query_TNH: Tensor, key_TNH: Tensor, value_TNH: Tensor, packing: Packing, *, scale: float
) -> Tensor:
    """(T, N, H) in the values' dtype; a position sees those of its row up to itself. All widths are equal."""
    dtype = value_TNH.dtype
    if dtype in _HALVES and value_TNH.shape[-1] in _WIDTHS and has_kernel(value_TNH.device):
        return _flash(query_TNH.to(dtype), key_TNH.to(dtype), value_TNH, packing, scale)
    return _padded(query_TNH.to(dtype), key_TNH.to(dtype), value_TNH, packing, scale)


@functools.cache
def has_kernel(device: torch.device) -> bool:
    """Whether the kernel works there: tried once, on rows of a few positions, beside padded ones."""
    if device.type != "cuda":
        return False
    try:
        error = _error(device)
    except (ImportError, TypeError):
        return False  # an older torch, without it or without its scale
    except RuntimeError as refused:
        reason = str(refused).partition("\n")[0]
    else:
        if error < _NEAR:
            return True
        reason = f"it is {error:.2g} off"
    warnings.warn(
        f"attention over packed rows does not work here ({reason}): they are padded for it", stacklevel=2
    )
    return False


def _flash(query_TNH: Tensor, key_TNH: Tensor, value_TNH: Tensor, packing: Packing, scale: float) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    start, longest = packing.start_B1, packing.longest
    mixed_TNH = varlen_attn(
        query_TNH, key_TNH, value_TNH, start, start, longest, longest, scale=scale, window_size=(-1, 0)
    )
    assert isinstance(mixed_TNH, Tensor)
    return mixed_TNH


def _padded(query_TNH: Tensor, key_TNH: Tensor, value_TNH: Tensor, packing: Packing, scale: float) -> Tensor:
    query, key, value = (
        packing.padded(each.flatten(1)).unflatten(-1, each.shape[1:]).transpose(1, 2)
        for each in (query_TNH, key_TNH, value_TNH)
    )
    mixed_BNLH = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
    return packing.packed(mixed_BNLH.transpose(1, 2).flatten(2)).unflatten(-1, value_TNH.shape[1:])


@torch.enable_grad()
def _error(device: torch.device) -> float:
    """Largest distance between the two, in what comes out and in the gradients."""
    rng = torch.Generator().manual_seed(0)
    packing = Packing.of(torch.tensor([5, 1, 40]), num_positions=48).to(device)
    drawn = torch.randn(4, len(packing.place_T), 2, 32, generator=rng).to(device, torch.bfloat16)
    told = []
    with torch.autocast(device.type, enabled=False):
        for attention in (_flash, _padded):
            query, key, value = (each.clone().requires_grad_() for each in drawn[:3])
            mixed_TNH = attention(query, key, value, packing, 0.2)
            gradients = torch.autograd.grad(mixed_TNH, (query, key, value), drawn[3])
            told.append(torch.stack([mixed_TNH.detach(), *gradients]).float())
    return float((told[0] - told[1]).abs().max())
