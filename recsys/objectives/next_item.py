"""Softmax of the next item over many others, in pieces: the logits of all positions never exist at once.

Legend: N positions, S score width, K items the target competes with, C positions of a piece, filled up to a
number of rows that comes again, W columns of a piece: the K items, the target, and some to fill up the row.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.nn.linear import filled, full_rate, product_dtype

# Of float32 logits: on a processor what its cache still holds some of, elsewhere what keeps the device busy.
_PIECE_BYTES, _DEVICE_PIECE_BYTES = 8 << 20, 256 << 20
_ALIGNED = 16  # floats: rows of a piece start where vector loads do
_LEAST_SHARE = torch.finfo(torch.float32).tiny


def next_item_loss(
    query_NS: Tensor, item_KS: Tensor, bias_K: Tensor, *, positive_N: Tensor, target_K_N: Tensor
) -> Tensor:
    """Sum over positions of -log softmax of the target's logit `positive_N` beside those of K other items.

    An other item's logit is query . item + bias; where the target is one of the K its column `target_K_N`
    is left out (-1: it is none of them), so that it counts once. A bias of -inf takes an item out. Gradients
    reach all four tensors; what is kept from forward to backward has the size of the inputs. A target whose
    share is below what float32 can tell counts as one of that share, a loss of 87.
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
        dtype = product_dtype(query_NS)
        num_items, num_queries, on_cpu = len(item_KS), len(query_NS), query_NS.device.type == "cpu"
        beyond = -(num_items + 1) % _ALIGNED + 1  # rows of zeros; the first one's column is the target's
        item_WS = F.pad(item_KS.to(dtype), (0, 0, 0, beyond))
        bias_W = F.pad(bias_K.float(), (0, beyond), value=-math.inf)
        full = filled if on_cpu else int  # elsewhere any number of rows is as good
        size = full(max(64, (_PIECE_BYTES if on_cpu else _DEVICE_PIECE_BYTES) // (4 * len(bias_W))))
        pieces = [slice(low, low + min(size, full(num_queries - low))) for low in range(0, num_queries, size)]
        num_rows = pieces[-1].stop if pieces else 0
        query_NS = F.pad(query_NS.to(dtype), (0, 0, 0, num_rows - num_queries))
        positive_N = positive_N.float()
        bias_W[num_items] = 0
        column_N1 = torch.where(target_K_N < 0, num_items, target_K_N)[:, None]
        ctx.set_materialize_grads(False)
        loss = torch.zeros((), device=query_NS.device)
        d_query_NS = torch.empty_like(query_NS) if needs_grad else None
        d_item_WS = torch.zeros(item_WS.shape, device=query_NS.device) if needs_grad else None
        d_bias_W, d_positive_N = torch.zeros_like(bias_W), torch.empty_like(positive_N)
        piece_CW = torch.empty(min(size, num_rows), len(bias_W), device=query_NS.device)
        rounded_CW = piece_CW if dtype == torch.float32 else torch.empty_like(piece_CW, dtype=dtype)
        for rows in pieces:
            at = slice(rows.start, min(rows.stop, num_queries))
            all_CW = piece_CW[: rows.stop - rows.start]
            with full_rate(query_NS):
                product_CW = torch.mm(query_NS[rows], item_WS.T, out=rounded_CW[: len(all_CW)])
            logit_CW = all_CW[: at.stop - at.start]
            if dtype != torch.float32:  # an addition of two types would make a copy of its own
                logit_CW.copy_(product_CW[: len(logit_CW)])
            logit_CW += bias_W
            logit_CW.scatter_(1, column_N1[at], -math.inf)[:, num_items] = positive_N[at]
            share_CW = torch.softmax(logit_CW, 1, out=logit_CW if on_cpu else None)
            share_C = share_CW[:, num_items]
            loss -= share_C.clamp(min=_LEAST_SHARE).log().sum()
            if d_query_NS is None or d_item_WS is None:
                continue
            d_positive_N[at] = share_C - 1
            d_bias_W += share_CW.sum(0)
            if on_cpu and dtype == torch.float32:
                d_logit_CW = all_CW
            elif dtype == torch.float32:
                d_logit_CW = share_CW
            else:
                d_logit_CW = product_CW
                d_logit_CW[: len(share_CW)].copy_(share_CW)
            d_logit_CW[len(share_CW) :] = 0
            with full_rate(query_NS):
                torch.mm(d_logit_CW, item_WS, out=d_query_NS[rows])
                d_item_WS += torch.mm(d_logit_CW.T, query_NS[rows])
        if d_query_NS is not None and d_item_WS is not None:
            d_query_NS, d_item_WS = d_query_NS[:num_queries], d_item_WS[:num_items]
            ctx.save_for_backward(d_query_NS, d_item_WS, d_bias_W[:num_items], d_positive_N)
        return loss

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor | None) -> tuple[Tensor | None, ...]:
        if d_loss is None:
            return None, None, None, None, None
        d_query_NS, d_item_KS, d_bias_K, d_positive_N = ctx.saved_tensors
        return d_query_NS * d_loss, d_item_KS * d_loss, d_bias_K * d_loss, d_positive_N * d_loss, None
