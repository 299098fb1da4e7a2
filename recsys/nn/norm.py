"""Norms in few passes over memory, of which torch makes one for each of its operations.

Legend: D width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
from torch import Tensor
from torch.autograd.function import once_differentiable

_LEAST_NUMBERS = 50_000  # fewer lie in the cache, where passes are cheap


class RMSNorm(nn.RMSNorm):
    """`nn.RMSNorm` over the last axis (Zhang and Sennrich 2019): values / root mean square * weight."""

    def forward(self, values: Tensor) -> Tensor:
        plain = values.device.type == "cpu" and len(self.normalized_shape) == 1 and self.weight is not None
        is_small = values.numel() < _LEAST_NUMBERS
        if is_small or not plain or not values.dtype == self.weight.dtype == torch.float32:
            return super().forward(values)
        eps = torch.finfo(torch.float32).eps if self.eps is None else self.eps
        normed: Tensor = _Norm.apply(values, self.weight, eps)  # type: ignore[no-untyped-call]
        return normed


class _Norm(torch.autograd.Function):
    """What is kept for backward: values of unit mean square, and what they were divided by."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        length = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
        scale = length.square_().div_(values.shape[-1]).add_(eps).rsqrt_()
        unit = values * scale
        ctx.save_for_backward(unit, scale, weight_D)
        return unit * weight_D

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, scale, weight_D = ctx.saved_tensors
        d_weight_D = (d_out * unit).reshape(-1, unit.shape[-1]).sum(0)
        d_unit = d_out * weight_D
        along = torch.linalg.vecdot(d_unit, unit).unsqueeze_(-1).div_(-unit.shape[-1])
        return torch.addcmul(d_unit, unit, along).mul_(scale), d_weight_D, None


def cut_to_unit(values: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors along the last axis, those longer than 1 cut to that length, and the lengths they then have,
    (..., 1).
    """
    cut, length = _Cut.apply(values)  # type: ignore[no-untyped-call]
    return cut, length


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> tuple[Tensor, Tensor]:
        length = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
        scale = length.clamp(min=1).reciprocal_()
        cut = values * scale
        ctx.save_for_backward(cut, length, scale)
        return cut, length.clamp(max=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_cut: Tensor, d_length: Tensor) -> Tensor:
        """Of a vector that is cut the direction alone matters, and its length is 1 whatever it was."""
        cut, length, scale = ctx.saved_tensors
        grown = d_length / length.clamp(min=torch.finfo(length.dtype).tiny)
        along = torch.where(length > 1, -torch.linalg.vecdot(d_cut, cut).unsqueeze(-1), grown)
        return torch.addcmul(d_cut, cut, along).mul_(scale)
