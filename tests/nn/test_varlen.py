"""Rows without padding between them: the same states, scores and gradients as padded ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from recsys.batch import Histories, Packing
from recsys.nn import varlen
from recsys.nn.varlen import has_kernel, varlen_attention
from tests.nn.small_model import catalogue, histories, small_model

COUNTS = torch.tensor([3, 1, 5])


def row_by_row(query_TNH: Tensor, key_TNH: Tensor, value_TNH: Tensor, scale: float) -> Tensor:
    """Softmax of the products within each row, as written down."""
    mixed = []
    for q, k, v in zip(
        *(each.split(COUNTS.tolist()) for each in (query_TNH, key_TNH, value_TNH)), strict=True
    ):
        score_NLL = torch.einsum("qnh,knh->nqk", q, k) * scale
        hidden_LL = torch.ones(len(q), len(q)).triu(1).bool()
        mixed.append(
            torch.einsum("nqk,knh->qnh", score_NLL.masked_fill(hidden_LL, -torch.inf).softmax(-1), v)
        )
    return torch.cat(mixed)


def test_a_position_sees_its_own_row_up_to_itself() -> None:
    inputs = torch.randn(3, 9, 2, 8, generator=torch.Generator().manual_seed(0))
    packing = Packing.of(COUNTS, num_positions=6)
    torch.testing.assert_close(varlen_attention(*inputs, packing, scale=0.3), row_by_row(*inputs, 0.3))


def test_padding_comes_and_goes() -> None:
    packing = Packing.of(COUNTS, num_positions=6)
    assert packing.start_B1.tolist() == [0, 3, 4, 9]
    assert packing.position_T.tolist() == [0, 1, 2, 0, 0, 1, 2, 3, 4]
    padded = torch.arange(1.0, 37).view(3, 6, 2)
    kept = packing.padded(packing.packed(padded))
    is_real = torch.arange(6) < COUNTS[:, None]
    assert torch.equal(kept, padded * is_real[..., None])


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("settings", [{}, {"activation_checkpointing": True}, {"cross_attention": False}])
def test_packed_rows_have_the_states_and_gradients_of_padded_ones(
    positions: str, settings: dict[str, Any]
) -> None:
    model = small_model(positions=positions, **settings)

    def told(of: Histories) -> list[Tensor]:
        states = model(of, catalogue())
        real_BL1 = torch.arange(7) <= of.length_B[:, None]
        user_TD = states.user_BLD[real_BL1]
        model.zero_grad()
        (user_TD * torch.linspace(-1, 1, user_TD.shape[-1])).sum().backward()
        return [user_TD.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    padded, packed = told(histories()), told(histories().packed())
    assert len(padded) == len(packed) > 20
    for mine, theirs in zip(packed, padded, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_packed_rows_recall_the_same_items_at_every_position() -> None:
    model = small_model(has_time=False, repeats=False, value_heads=None)
    position_N = torch.tensor([0, 2, 6, 7, 9, 11])  # of two rows of seven
    padded, packed = (
        model.position_vectors(model(of, catalogue()), of, position_N)
        for of in (histories(), histories().packed())
    )
    torch.testing.assert_close(packed, padded, rtol=1e-4, atol=1e-5)


def test_no_rows_are_not_packed() -> None:
    none = Histories(*(column[:0] for column in histories() if torch.is_tensor(column)))
    assert none.packed().packing is None


def test_packed_rows_move_to_a_device_whole() -> None:
    moved = histories().packed().to(torch.device("meta"))
    assert moved.packing is not None
    assert [each.device.type for each in moved.packing[:3]] == ["meta"] * 3
    assert moved.packing.longest == 7


def test_torchs_kernel_takes_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """On tensors without numbers, forward and backward: arguments, shapes, types."""
    monkeypatch.setattr(varlen, "has_kernel", lambda _: True)
    monkeypatch.setattr(varlen, "_padded", None)
    packing = Packing.of(COUNTS, num_positions=6).to(torch.device("meta"))
    inputs = [
        torch.empty(9, 2, 16, dtype=torch.bfloat16, device="meta", requires_grad=True) for _ in range(3)
    ]
    mixed_TNH = varlen_attention(*inputs, packing, scale=0.3)
    assert mixed_TNH.shape == (9, 2, 16)
    gradients = torch.autograd.grad(mixed_TNH.sum(), inputs)
    assert [(each.shape, each.dtype) for each in gradients] == [((9, 2, 16), torch.bfloat16)] * 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_kernel_agrees_with_padded_rows() -> None:
    device = torch.device("cuda")
    assert has_kernel(device), "the kernel needs an Ampere GPU or a later one"
    model, items = small_model(width=32, score_width=32, positions="rotary").to(device), catalogue()
    items = type(items)(*(column.to(device) for column in items))
    told = []
    with torch.autocast("cuda", torch.bfloat16):
        for of in (histories(), histories().packed()):
            states = model(of.to(device), items)
            told.append(states.user_BLD[torch.arange(7) <= of.length_B[:, None]])
    torch.testing.assert_close(told[1], told[0], rtol=0.05, atol=0.05)


def test_a_processor_has_no_kernel() -> None:
    assert not has_kernel(torch.device("cpu"))


@pytest.fixture
def tried_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a GPU would be asked to compute, this processor computes."""
    monkeypatch.setattr(varlen, "_error", lambda _, error=varlen._error: error(torch.device("cpu")))
    has_kernel.cache_clear()
    yield
    has_kernel.cache_clear()


@pytest.mark.usefixtures("tried_here")
@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (lambda *inputs: 2 * varlen._padded(*inputs), "off"),
        (lambda *inputs: (_ for _ in ()).throw(RuntimeError("no such card\nat line 3")), "no such card"),
    ],
)
def test_a_kernel_that_does_not_work_is_not_used(
    kernel: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(varlen, "_flash", kernel)
    with pytest.warns(UserWarning, match=said):
        assert not has_kernel(torch.device("cuda"))


@pytest.mark.usefixtures("tried_here")
def test_a_kernel_that_agrees_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "_flash", varlen._padded)
    assert has_kernel(torch.device("cuda"))


@pytest.mark.usefixtures("tried_here")
def test_an_older_torch_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", None)
    assert not has_kernel(torch.device("cuda"))


@pytest.mark.usefixtures("tried_here")
def test_an_older_torchs_kernel_takes_no_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    def older(query: Tensor, key: Tensor, value: Tensor, *rows: Any, is_causal: bool = False) -> Tensor:
        raise AssertionError("it is called as today's")

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", older)
    monkeypatch.setattr(varlen, "_error", lambda device: _error_on_cpu())
    assert not has_kernel(torch.device("cuda"))


def _error_on_cpu() -> float:
    packing = Packing.of(COUNTS, num_positions=6)
    varlen._flash(*torch.zeros(3, 9, 2, 8), packing, 0.3)
    return 0.0
