"""The best rate of a product of two square matrices here, by precision: what a model's is held to."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

SQUARES = (1024, 2048)
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def products() -> list[tuple[str, float, Callable[[], Any]]]:
    """(precision, FLOPs, product), as torch multiplies by itself and in float32 by oneDNN too."""
    found: list[tuple[str, float, Callable[[], Any]]] = []
    for precision, dtype in TYPES.items():
        for size in SQUARES:
            one, other = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
            found.append((precision, 2.0 * size**3, partial(torch.matmul, one, other)))
            if precision == "fp32" and torch.backends.mkldnn.is_available():
                found.append((precision, 2.0 * size**3, partial(F.linear, one.to_mkldnn(), other)))
    return found


def peak_flops(
    asked: list[tuple[str, float, Callable[[], Any]]], *, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """FLOPs a second of the best product of each precision, one try each."""
    best = dict.fromkeys(TYPES, 0.0)
    for precision, flops, run in asked:
        began = clock()
        run()
        best[precision] = max(best[precision], flops / (clock() - began))
    return best
