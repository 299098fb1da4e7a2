"""Linear layers and products at a processor's full rate, in few different shapes.

On a processor torch multiplies float32 by MKL, which leaves the AVX-512 of other makers than its own unused:
half the rate of oneDNN, where bfloat16 goes. oneDNN prepares a kernel for every number of rows and keeps it:
with batches of any number of rows that takes more memory than the model, and time in every step. So rows are
multiplied in parts of a power of two, and a rest that is filled up.

Legend: T rows, I inputs, O outputs, P rows of a part.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_LEAST_PRODUCTS = 1_000_000  # of so few multiplications the parts take longer than they save
_LEAST_STEP, _STEPS = 16, 16  # rows are cut at multiples of a sixteenth of the power of two below them


class Linear(nn.Linear):
    """`nn.Linear`. Elsewhere than on a processor, in other types and for few rows nothing else."""

    def forward(self, values: Tensor) -> Tensor:
        dtype = product_dtype(values)
        if values.numel() * self.out_features < _LEAST_PRODUCTS or not goes_to_onednn(values, dtype):
            return super().forward(values)
        out_TO: Tensor = _Rows.apply(values.reshape(-1, self.in_features).to(dtype), self.weight, self.bias)  # type: ignore[no-untyped-call]
        return out_TO.view(*values.shape[:-1], self.out_features)


def product_dtype(values: Tensor) -> torch.dtype:
    """Of a product with these under the autocast at hand."""
    device = values.device.type
    is_cast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if is_cast and values.dtype != torch.float64 else values.dtype


def goes_to_onednn(values: Tensor, dtype: torch.dtype) -> bool:
    """Whether products in this dtype are made by oneDNN, given `full_rate`."""
    if values.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.bfloat16 or (dtype == torch.float32 and _has_exact_onednn())


@cache
def _has_exact_onednn() -> bool:
    """Whether float32 products that torch may round come out unrounded: oneDNN rounds where it has AMX."""
    if not hasattr(torch.cpu, "get_capabilities") or not hasattr(torch.backends.mkldnn, "matmul"):
        return False  # an older torch
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_f")) and not found.get("amx_tile") and torch.backends.mkldnn.is_available()


class _Switch:
    """What lets torch hand float32 products on a processor to oneDNN: one for the process, so the first of
    several threads turns it on and the last one turns it back.
    """

    def __init__(self) -> None:
        self.lock, self.users, self.before = threading.Lock(), 0, ""

    def __enter__(self) -> None:
        with self.lock:
            self.users += 1
            if self.users == 1:
                self.before = self._turned("bf16")

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                self._turned(self.before)

    @staticmethod
    def _turned(to: str) -> str:
        """What it was before."""
        of_onednn: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        before: str = of_onednn.fp32_precision
        of_onednn.fp32_precision = to
        return before


_SWITCH = _Switch()


@contextmanager
def full_rate(values: Tensor) -> Iterator[None]:
    """Within it oneDNN multiplies tensors like these, also in float32, where its products stay exact. Torch's
    own attention kernel, which makes many small ones, is slower so.
    """
    if values.dtype != torch.float32 or not goes_to_onednn(values, values.dtype):
        yield
        return
    with _SWITCH:
        yield


def filled(num_rows: int) -> int:
    """Rows up to the next cut: at most a sixteenth more, and few values for numbers near one another."""
    step = _step(num_rows)
    return -(-num_rows // step) * step


def _step(num_rows: int) -> int:
    return max(_LEAST_STEP, (1 << max(num_rows.bit_length() - 1, 0)) // _STEPS)


def _parts(values_TI: Tensor) -> list[tuple[slice, Tensor]]:
    """Rows and their values: powers of two that fall, and the rest with rows of zeros behind it."""
    parts, low, num_rows = [], 0, len(values_TI)
    step = _step(num_rows)
    while num_rows - low >= step:
        size = 1 << ((num_rows - low).bit_length() - 1)
        parts.append((slice(low, low + size), values_TI[low : low + size]))
        low += size
    if low < num_rows or not parts:
        parts.append((slice(low, num_rows), F.pad(values_TI[low:], (0, 0, 0, low + step - num_rows))))
    return parts


class _Rows(torch.autograd.Function):
    """values_TI @ weight_OI.T + bias_O, part by part."""

    @staticmethod
    def forward(ctx: Any, values_TI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(values_TI, weight_OI)
        dtype = values_TI.dtype
        bias_O = None if bias_O is None else bias_O.to(dtype)
        return _multiplied(values_TI, weight_OI.to(dtype).T, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out_TO: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        values_TI, weight_OI = ctx.saved_tensors
        d_values_TI = d_weight_OI = d_bias_O = None
        d_out_TO = d_out_TO.contiguous()
        if ctx.needs_input_grad[0]:
            d_values_TI = _multiplied(d_out_TO, weight_OI.to(d_out_TO.dtype))
        if ctx.needs_input_grad[1]:
            both = zip(_parts(d_out_TO), _parts(values_TI), strict=True)
            with full_rate(d_out_TO):
                products = [(d_out_PO.T @ values_PI).float() for (_, d_out_PO), (_, values_PI) in both]
            d_weight_OI = sum(products[1:], products[0]).to(weight_OI.dtype)
        if ctx.needs_input_grad[2]:
            d_bias_O = d_out_TO.sum(0, dtype=weight_OI.dtype)
        return d_values_TI, d_weight_OI, d_bias_O


def _multiplied(values_TI: Tensor, weight_IO: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """(T, O)."""
    out_TO = values_TI.new_empty(len(values_TI), weight_IO.shape[1])
    with torch.autocast("cpu", enabled=False), full_rate(values_TI):
        for rows, values_PI in _parts(values_TI):
            room = out_TO[rows]
            whole = room if len(room) == len(values_PI) else room.new_empty(len(values_PI), room.shape[1])
            if bias_O is None:
                torch.mm(values_PI, weight_IO, out=whole)
            else:
                torch.addmm(bias_O, values_PI, weight_IO, out=whole)
            if whole is not room:
                room.copy_(whole[: len(room)])
    return out_TO
