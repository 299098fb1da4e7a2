"""Causal attention on a processor from products at its full rate, a few rows at a time.

Torch's kernel for processors multiplies small blocks by MKL, and values only as wide as queries. Whole rows
go to oneDNN, at more than twice the rate for twice the scores. Those of a few rows stay in the cache and are
made again for the gradients, as in FlashAttention (Dao et al. 2022).

Legend: B rows, L positions, N heads, H width of queries and keys, G width of values; P positions filled up to
a number that comes again, R rows at a time.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys.nn.linear import full_rate, goes_to_onednn

_LEAST_LENGTH = 64  # of fewer positions torch's own kernel is done sooner
_MOST_SCORES = 4_000_000  # of a row; more would not stay small
_STEP = 32  # positions are filled up to its multiples, so that kernels are few
_MOST_ROWS, _SCORES = 16, 700_000  # at a time


def suits(value_BNLG: Tensor) -> bool:
    """Whether `causal_attention` is the faster way, to the same result."""
    N, L = value_BNLG.shape[1:3]
    return L >= _LEAST_LENGTH and N * L * L <= _MOST_SCORES and goes_to_onednn(value_BNLG, torch.float32)


def causal_attention(query_BNLH: Tensor, key_BNLH: Tensor, value_BNLG: Tensor, *, scale: float) -> Tensor:
    """(B, N, L, G) in the values' dtype, computed in float32; position t sees the positions up to t."""
    mixed_BNLG: Tensor = _Causal.apply(query_BNLH, key_BNLH, value_BNLG, scale)  # type: ignore[no-untyped-call]
    return mixed_BNLG


class _Rooms:
    """Memory that a few rows after the others are computed in."""

    def __init__(self, values_BNLG: Tensor) -> None:
        B, N, self.length, _ = values_BNLG.shape
        self.positions = -(-self.length // _STEP) * _STEP
        fits = _SCORES // (N * self.positions**2)
        self.rows = min(_MOST_ROWS, 1 << max(fits.bit_length() - 1, 0))
        self.num_heads = N
        self.parts = [slice(low, min(low + self.rows, B)) for low in range(0, B, self.rows)]
        self.mask_PP = torch.full((self.positions, self.positions), -math.inf).triu(1)

    def new(self, width: int) -> Tensor:
        """(R * N, P, width), 0 beyond L."""
        room = torch.empty(self.rows * self.num_heads, self.positions, width)
        room[:, self.length :] = 0
        return room

    def put(self, values_RNLH: Tensor, room: Tensor) -> Tensor:
        """Fill the room's first rows, which are returned."""
        taken = room[: len(values_RNLH) * self.num_heads]
        self.real(taken).copy_(values_RNLH)
        return taken

    def real(self, taken: Tensor) -> Tensor:
        """(R, N, L, width): without what fills it up."""
        return taken.unflatten(0, (-1, self.num_heads))[:, :, : self.length]

    def shares(self, query: Tensor, key: Tensor, scale: float, room: Tensor) -> Tensor:
        """(R * N, P, P): softmax of the scores."""
        score = room[: len(query)]
        torch.baddbmm(self.mask_PP, query, key.transpose(1, 2), alpha=scale, out=score)
        return torch.softmax(score, -1, out=score)


class _Causal(torch.autograd.Function):
    """Keeps what came in alone."""

    @staticmethod
    def forward(ctx: Any, query_BNLH: Tensor, key_BNLH: Tensor, value_BNLG: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(query_BNLH, key_BNLH, value_BNLG)
        ctx.scale = scale
        rooms, (B, N, L, G) = _Rooms(value_BNLG), value_BNLG.shape
        H = query_BNLH.shape[-1]
        q_room, k_room, v_room, out_room = rooms.new(H), rooms.new(H), rooms.new(G), rooms.new(G)
        score_room = rooms.new(rooms.positions)
        mixed_BNLG = value_BNLG.new_empty(B, L, N, G).transpose(1, 2)
        with full_rate(q_room):
            for at in rooms.parts:
                query, key = rooms.put(query_BNLH[at], q_room), rooms.put(key_BNLH[at], k_room)
                value = rooms.put(value_BNLG[at], v_room)
                share = rooms.shares(query, key, scale, score_room)
                mixed_BNLG[at].copy_(rooms.real(torch.bmm(share, value, out=out_room[: len(share)])))
        return mixed_BNLG

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_mixed_BNLG: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        inputs, scale = ctx.saved_tensors, ctx.scale
        rooms = _Rooms(d_mixed_BNLG)
        (B, N, L, G), H = d_mixed_BNLG.shape, inputs[0].shape[-1]
        in_rooms = [rooms.new(each.shape[-1]) for each in inputs]
        d_room, narrow_room, wide_room = rooms.new(G), rooms.new(H), rooms.new(G)
        score_room, d_score_room = rooms.new(rooms.positions), rooms.new(rooms.positions)
        d_inputs = [each.new_empty(B, L, N, each.shape[-1]).transpose(1, 2) for each in inputs]
        with full_rate(d_room):
            for at in rooms.parts:
                query, key, value = (
                    rooms.put(each[at], room) for each, room in zip(inputs, in_rooms, strict=True)
                )
                d_mixed = rooms.put(d_mixed_BNLG[at], d_room)
                share = rooms.shares(query, key, scale, score_room)
                narrow, wide, d_score = (
                    room[: len(share)] for room in (narrow_room, wide_room, d_score_room)
                )
                d_inputs[2][at].copy_(rooms.real(torch.bmm(share.transpose(1, 2), d_mixed, out=wide)))
                torch.bmm(d_mixed, value.transpose(1, 2), out=d_score)
                d_score.sub_(torch.linalg.vecdot(d_score, share)[..., None]).mul_(share).mul_(scale)
                d_inputs[0][at].copy_(rooms.real(torch.bmm(d_score, key, out=narrow)))
                d_inputs[1][at].copy_(rooms.real(torch.bmm(d_score.transpose(1, 2), query, out=narrow)))
        return *d_inputs, None
