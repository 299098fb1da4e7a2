"""Products in parts: torch's own results and gradients, unrounded, in shapes that are few."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn as nn
from torch import Tensor

from recsys.nn import linear
from recsys.nn.linear import Linear, filled, full_rate, goes_to_onednn

WIDTH_IN, WIDTH_OUT = 12, 20


def both() -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    mine, theirs = Linear(WIDTH_IN, WIDTH_OUT), nn.Linear(WIDTH_IN, WIDTH_OUT)
    theirs.load_state_dict(mine.state_dict())
    return mine, theirs


def told(layer: nn.Linear, values: Tensor) -> list[Tensor]:
    """The output and the gradients of values, weight and bias."""
    values = values.clone().requires_grad_()
    out = layer(values)
    weight = torch.linspace(-1, 1, WIDTH_OUT).to(out.dtype)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), [values, *layer.parameters()])]


@pytest.fixture(autouse=True)
def few_rows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_LEAST_PRODUCTS", 0)


@pytest.mark.parametrize("rows", [(), (0,), (1,), (15,), (16,), (7, 11), (1001,), (4096,)])
def test_it_is_a_linear_layer(rows: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    values = torch.randn(*rows, WIDTH_IN)
    mine, theirs = (told(layer, values) for layer in both())
    for found, expected in zip(mine, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert found.shape == expected.shape


def test_it_is_one_in_bfloat16_under_autocast() -> None:
    torch.manual_seed(1)
    values = torch.randn(333, WIDTH_IN)
    with torch.autocast("cpu", torch.bfloat16):
        mine, theirs = (told(layer, values) for layer in both())
    assert mine[0].dtype == torch.bfloat16
    for found, expected in zip(mine, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


def test_parts_are_of_few_sizes() -> None:
    sizes = {len(part) for rows in range(1000, 1464) for _, part in linear._parts(torch.empty(rows, 1))}
    assert sizes <= {1024, 512, 256, 128, 64, 32}
    for rows in (1, 16, 17, 1000, 12_801):
        parts = linear._parts(torch.ones(rows, 1))
        assert sum(stop.stop - stop.start for stop, _ in parts) == rows
        assert sum(float(part.sum()) for _, part in parts) == rows
        assert rows <= filled(rows) <= rows + max(15, rows // 16)
    assert len({filled(rows) for rows in range(12_000, 13_000)}) <= 3


def test_products_are_not_rounded() -> None:
    torch.manual_seed(1)
    one, other = torch.randn(200, 300), torch.randn(300, 100)
    with full_rate(one):
        found = one @ other
    torch.testing.assert_close(found.double(), one.double() @ other.double(), rtol=1e-5, atol=1e-4)


def test_the_switch_is_turned_back_by_the_last_of_several_threads() -> None:
    if not linear._has_exact_onednn():
        pytest.skip("float32 products stay where they are here")
    of_onednn, values = torch.backends.mkldnn.matmul, torch.ones(1)  # type: ignore[attr-defined]
    before, of_gpus = of_onednn.fp32_precision, torch.backends.cuda.matmul.allow_tf32

    def work() -> None:
        for _ in range(500):
            with full_rate(values), full_rate(values):
                assert of_onednn.fp32_precision == "bf16"

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    with pytest.raises(InterruptedError), full_rate(values):
        raise InterruptedError
    with full_rate(values):
        assert torch.backends.cuda.matmul.allow_tf32 == of_gpus
    assert of_onednn.fp32_precision == before


@pytest.mark.parametrize("exact", [True, False])
def test_a_processor_that_would_round_keeps_its_own(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"avx512_f": True, "amx_tile": not exact}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    linear._has_exact_onednn.cache_clear()
    try:
        if torch.backends.mkldnn.is_available():
            assert goes_to_onednn(torch.ones(1), torch.float32) is exact
            assert goes_to_onednn(torch.ones(1), torch.bfloat16)
        assert not goes_to_onednn(torch.ones(1), torch.float64)
        assert not goes_to_onednn(torch.ones(1, device="meta"), torch.float32)
    finally:
        linear._has_exact_onednn.cache_clear()
