"""The precision of a run whose settings leave it to the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from recsys.parallel.cluster import AUTO

_CPU_FEATURES = ("avx512_bf16", "amx_bf16", "bf16")  # of x86, and of ARM


def native_precision(trainer: Mapping[str, Any]) -> dict[str, str]:
    """`precision` for a trainer whose settings say `auto`: bf16-mixed where the device multiplies in bfloat16
    itself, else 32-true.
    """
    if trainer.get("precision") != AUTO:
        return {}
    return {"precision": "bf16-mixed" if _multiplies_in_bfloat16(trainer.get("accelerator")) else "32-true"}


def _multiplies_in_bfloat16(accelerator: str | None) -> bool:
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch
        return False
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in _CPU_FEATURES)
