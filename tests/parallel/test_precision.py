"""`precision: auto` is bfloat16 where the device has it, and nothing else is touched."""

from __future__ import annotations

import pytest
import torch

from recsys.parallel.precision import native_precision


@pytest.mark.parametrize("named", ["32-true", "bf16-mixed", 16, None])
def test_a_precision_that_is_named_stays(named: str | int | None) -> None:
    assert native_precision({"precision": named, "accelerator": "cpu"}) == {}


@pytest.mark.parametrize(
    ("features", "precision"),
    [
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": True, "avx512_bf16": False}, "bf16-mixed"),
        ({"avx2": True, "avx512_bf16": False}, "32-true"),
    ],
)
def test_processors(monkeypatch: pytest.MonkeyPatch, features: dict[str, bool], precision: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for accelerator in ("cpu", "auto"):
        assert native_precision({"precision": "auto", "accelerator": accelerator}) == {"precision": precision}


@pytest.mark.parametrize(("supported", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_gpus(monkeypatch: pytest.MonkeyPatch, supported: bool, precision: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported)
    assert native_precision({"precision": "auto", "accelerator": "auto"}) == {"precision": precision}
