"""The loss in pieces against torch's own cross entropy over all logits at once, gradients included."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.objectives import next_item
from recsys.objectives.next_item import next_item_loss

N, S, K = 150, 8, 30


@pytest.fixture(params=[1 << 30, 1], ids=["one piece", "several pieces"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_item, "_PIECE_BYTES", request.param)  # at least 64 positions are a piece


def tensors() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, items, biases, targets."""
    rng = torch.Generator().manual_seed(0)
    query, item = torch.randn(N, S, generator=rng), torch.randn(K, S, generator=rng)
    return query, item, torch.randn(K, generator=rng), torch.randint(0, K, (N,), generator=rng)


def over_all(query_NS: Tensor, item_KS: Tensor, bias_K: Tensor, target_N: Tensor) -> Tensor:
    positive_N = (query_NS * item_KS[target_N]).sum(-1) + bias_K[target_N]
    return next_item_loss(query_NS, item_KS, bias_K, positive_N=positive_N, target_K_N=target_N)


@pytest.mark.usefixtures("pieces")
def test_it_is_cross_entropy_with_its_gradients() -> None:
    *parts, target = tensors()
    parts = [part.requires_grad_() for part in parts]
    query, item, bias = parts
    expected = F.cross_entropy(query @ item.T + bias, target, reduction="sum")
    found = over_all(query, item, bias, target)
    torch.testing.assert_close(found, expected)
    for mine, theirs in zip(
        torch.autograd.grad(found, parts), torch.autograd.grad(expected, parts), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("pieces")
def test_a_target_that_is_not_among_the_others_is_one_more() -> None:
    query, item, bias, target = tensors()
    drawn_K = torch.arange(0, K, 2)
    logits_NK = query @ item.T + bias
    column_N = torch.where(target % 2 == 0, target // 2, -1)
    positive_N = logits_NK.gather(1, target[:, None])[:, 0].requires_grad_()
    found = next_item_loss(query, item[drawn_K], bias[drawn_K], positive_N=positive_N, target_K_N=column_N)
    expected = sum(
        -math.log(math.exp(logits_NK[n, t]) / sum(math.exp(logits_NK[n, k]) for k in {*range(0, K, 2), t}))
        for n, t in enumerate(target.tolist())
    )
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("pieces")
def test_an_item_that_is_out_is_never_chosen_and_learns_nothing() -> None:
    query, item, bias, target = tensors()
    target = target.clamp(min=1)
    out = bias.clone().index_fill_(0, torch.tensor([0]), -math.inf)
    item.requires_grad_()
    found = over_all(query, item, out, target)
    expected = F.cross_entropy(query @ item[1:].T + bias[1:], target - 1, reduction="sum")
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, item)
    assert torch.isfinite(gradient).all()
    assert (gradient[0] == 0).all()


def test_half_precision_is_near() -> None:
    query, item, bias, target = tensors()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = over_all(query, item, bias, target)
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, over_all(query, item, bias, target), rtol=0.01, atol=0)


def test_nobody_asks_and_nothing_is_lost() -> None:
    query, item, bias, target = tensors()
    none = query[:0].requires_grad_()
    loss = over_all(none, item, bias, target[:0])
    loss.backward()
    assert float(loss.detach()) == 0
