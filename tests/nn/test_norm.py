"""The norm in few passes: torch's own values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn as nn
from torch import Tensor

from recsys.nn import norm
from recsys.nn.norm import RMSNorm, cut_to_unit

D = 24


@pytest.fixture(autouse=True)
def few_numbers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norm, "_LEAST_NUMBERS", 0)


def told(layer: nn.RMSNorm, values: Tensor) -> list[Tensor]:
    """The output and the gradients of values and weight."""
    values = values.clone().requires_grad_()
    out = layer(values)
    return [
        out.detach(),
        *torch.autograd.grad((out * torch.linspace(-1, 2, D)).sum(), [values, layer.weight]),
    ]


@pytest.mark.parametrize("eps", [None, 1e-3])
@pytest.mark.parametrize("shape", [(D,), (0, D), (9, D), (3, 5, D)])
def test_it_is_the_root_mean_square_norm(shape: tuple[int, ...], eps: float | None) -> None:
    torch.manual_seed(0)
    values = torch.randn(shape) * 3
    mine, theirs = RMSNorm(D, eps=eps), nn.RMSNorm(D, eps=eps)
    with torch.no_grad():
        for layer in (mine, theirs):
            layer.weight.copy_(torch.linspace(0.5, 1.5, D))
    for found, expected in zip(told(mine, values), told(theirs, values), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_row_of_zeros_stays_one() -> None:
    out, d_values, _ = told(RMSNorm(D), torch.zeros(2, D))
    assert not out.any()
    assert torch.isfinite(d_values).all()


@pytest.mark.parametrize("weight", [torch.float32, torch.bfloat16])
def test_other_types_are_torchs(weight: torch.dtype) -> None:
    values = torch.randn(4, D, dtype=torch.bfloat16) / 100  # small ones: torch adds float32's epsilon
    assert torch.equal(RMSNorm(D).to(weight)(values), nn.RMSNorm(D).to(weight)(values))


def test_long_vectors_are_cut_to_length_one_with_their_gradients() -> None:
    torch.manual_seed(0)
    values = torch.randn(9, D, dtype=torch.float64) * torch.linspace(0.02, 2, 9)[:, None]
    values.requires_grad_()
    length = values.norm(dim=-1, keepdim=True)
    assert 0 < int((length > 1).sum()) < 9
    expected = values / length.clamp(min=1)
    found, found_length = cut_to_unit(values)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found_length, length.clamp(max=1))
    weight = torch.randn(9, D + 1, dtype=torch.float64)
    mine, theirs = (
        torch.autograd.grad((torch.cat(pair, -1) * weight).sum(), values)[0]
        for pair in ((found, found_length), (expected, length.clamp(max=1)))
    )
    torch.testing.assert_close(mine, theirs)


def test_a_vector_of_zeros_is_not_cut() -> None:
    values = torch.zeros(2, D, requires_grad=True)
    cut, length = cut_to_unit(values)
    assert not cut.any()
    assert not length.any()
    (gradient,) = torch.autograd.grad(cut.sum() + length.sum(), values)
    assert (gradient == 1).all()
