"""Attention in pieces against torch's own over everything: values and gradients, any rows and positions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.nn import attention, causal
from recsys.nn.attention import fused_attention
from recsys.nn.causal import causal_attention, suits


def tensors(B: int, N: int, L: int, H: int, G: int) -> list[Tensor]:
    """Queries, keys and values, as a linear layer's output is cut into heads."""
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(B, L, N, w, generator=rng).transpose(1, 2).requires_grad_() for w in (H, H, G)]


def told(mixed_BNLG: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weight = torch.randn(mixed_BNLG.shape, generator=torch.Generator().manual_seed(1))
    return [mixed_BNLG.detach(), *torch.autograd.grad((mixed_BNLG.float() * weight).sum(), inputs)]


@pytest.mark.parametrize("rows_at_once", [2, 16])
@pytest.mark.parametrize("shape", [(1, 1, 1, 4, 4), (5, 2, 33, 4, 4), (19, 1, 64, 4, 12), (3, 4, 101, 8, 8)])
def test_it_is_torchs(
    shape: tuple[int, int, int, int, int], rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causal, "_MOST_ROWS", rows_at_once)
    inputs, (*_, H, G) = tensors(*shape), shape
    mine = told(causal_attention(*inputs, scale=0.3), inputs)
    query, key, value = inputs
    wide = [F.pad(query, (0, G - H)), F.pad(key, (0, G - H)), value]
    theirs = told(F.scaled_dot_product_attention(*wide, is_causal=True, scale=0.3), inputs)
    for found, expected in zip(mine, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_comes_out_as_it_came_in() -> None:
    inputs = tensors(2, 2, 70, 8, 8)
    rough = [each.detach().bfloat16().requires_grad_() for each in inputs]
    found = told(causal_attention(*rough, scale=0.3), rough)
    assert {each.dtype for each in found} == {torch.bfloat16}
    for mine, exact in zip(found, told(causal_attention(*inputs, scale=0.3), inputs), strict=True):
        torch.testing.assert_close(mine.float(), exact, rtol=5e-2, atol=5e-2)


@pytest.mark.parametrize("width", [3, 10])
@pytest.mark.parametrize("suited", [True, False])
def test_either_way_gives_the_same(suited: bool, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "suits", lambda _: suited)
    inputs = tensors(3, 1, 40, 4, width)
    query, key, value = inputs
    visible = torch.ones(40, 40).tril() > 0
    score = (query @ key.transpose(2, 3) / 2).masked_fill(~visible, float("-inf"))
    expected = told(score.softmax(-1) @ value, inputs)
    for mine, plain in zip(told(fused_attention(*inputs), inputs), expected, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-5)


def test_few_positions_and_very_many_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal, "goes_to_onednn", lambda *_: True)
    assert suits(torch.empty(1, 2, 200, 4))
    assert not suits(torch.empty(1, 2, 20, 4))
    assert not suits(torch.empty(1, 2, 20_000, 4))
