"""Softmax of the next item over many others, in pieces: the logits of all positions never exist at once.

Legend: N positions, S score width, K items the target competes with, C positions of a piece.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

# Of float32 logits: on a processor what its cache still holds some of, elsewhere what keeps the device busy.
_PIECE_BYTES, _DEVICE_PIECE_BYTES = 8 << 20, 256 << 20
_LEAST_LOGIT = -1e30  # of the largest, where nothing can be chosen


def next_item_loss(
    query_NS: Tensor, item_KS: Tensor, bias_K: Tensor, *, positive_N: Tensor, target_K_N: Tensor
) -> Tensor:
    """Sum over positions of -log softmax of the target's logit `positive_N` beside those of K other items.

    An other item's logit is query . item + bias; where the target is one of the K its column `target_K_N`
    is left out (-1: it is none of them), so that it counts once. A bias of -inf takes an item out. Gradients
    reach all four tensors; what is kept from forward to backward has the size of the inputs.
    """
    loss: Tensor = _NextItem.apply(query_NS, item_KS, bias_K, positive_N, target_K_N)  # type: ignore[no-untyped-call]
    return loss


class _NextItem(torch.autograd.Function):
    """The gradients of a sum of cross entropies are known as soon as the logits are: both in one pass."""

    @staticmethod
    def forward(
        ctx: Any, query_NS: Tensor, item_KS: Tensor, bias_K: Tensor, positive_N: Tensor, target_K_N: Tensor
    ) -> Tensor:
        needs_grad = any(ctx.needs_input_grad)
        device = query_NS.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query_NS.dtype
        query_NS, item_KS, item_SK = query_NS.to(dtype), item_KS.to(dtype), item_KS.to(dtype).T
        bias_K, positive_N = bias_K.float(), positive_N.float()
        ctx.set_materialize_grads(False)
        loss = torch.zeros((), device=query_NS.device)
        d_query_NS = torch.empty_like(query_NS) if needs_grad else None
        d_item_KS = torch.zeros(item_KS.shape, device=query_NS.device) if needs_grad else None
        d_bias_K, d_positive_N = torch.zeros_like(bias_K), torch.empty_like(positive_N)
        piece_bytes = _PIECE_BYTES if device == "cpu" else _DEVICE_PIECE_BYTES
        size = max(64, piece_bytes // (4 * max(len(item_KS), 1)))
        for low in range(0, len(query_NS), size):
            at = slice(low, low + size)
            share_CK = torch.mm(query_NS[at], item_SK).float().add_(bias_K)
            column_C1 = target_K_N[at, None]
            # writes -inf over the target's own column, and over nothing where it has none
            own_C1 = share_CK.gather(1, column_C1.clamp(min=0)).masked_fill(column_C1 >= 0, -math.inf)
            share_CK.scatter_(1, column_C1.clamp(min=0), own_C1)
            most_C = share_CK.amax(1).clamp(min=_LEAST_LOGIT)
            share_CK.sub_(most_C[:, None]).exp_()
            total_C = torch.logaddexp(share_CK.sum(1).log() + most_C, positive_N[at])
            loss = loss + (total_C - positive_N[at]).sum()
            if d_query_NS is None or d_item_KS is None:
                continue
            # shares of the softmax are these times scale_C, which is less to multiply after the products
            scale_C = torch.exp(most_C - total_C)
            d_positive_N[at] = torch.exp(positive_N[at] - total_C) - 1
            d_bias_K.addmv_(share_CK.T, scale_C)
            d_logits_CK, scale_C1 = share_CK.to(dtype), scale_C[:, None].to(dtype)
            torch.mm(d_logits_CK, item_KS, out=d_query_NS[at])
            d_query_NS[at] *= scale_C1
            d_item_KS += torch.mm(d_logits_CK.T, query_NS[at] * scale_C1)
        if needs_grad:
            ctx.save_for_backward(d_query_NS, d_item_KS, d_bias_K, d_positive_N)
        return loss

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor | None) -> tuple[Tensor | None, ...]:
        if d_loss is None:
            return None, None, None, None, None
        d_query_NS, d_item_KS, d_bias_K, d_positive_N = ctx.saved_tensors
        return d_query_NS * d_loss, d_item_KS * d_loss, d_bias_K * d_loss, d_positive_N * d_loss, None
