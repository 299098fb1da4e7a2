"""Cheap dropout drops the share it should, keeps the mean, and sends gradients back through what it kept."""

from __future__ import annotations

import pytest
import torch

from recsys.nn.dropout import Dropout


@pytest.mark.parametrize("share", [0.02, 0.2, 0.85])
@pytest.mark.parametrize("shape", [(1000, 1001), (7, 11, 4001)])
def test_share_and_mean(share: float, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    out = Dropout(share)(torch.ones(shape))
    error = (share * (1 - share) / out.numel()) ** 0.5
    assert abs(float((out == 0).double().mean()) - share) < 4 * error
    assert float(out.double().mean()) == pytest.approx(1, abs=4 * error / (1 - share))
    assert out[out > 0].unique().numel() == 1


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(400_000)) > 0).double() - 0.5
    for distance in (1, 2, 3, 4, 8):
        assert abs(float((kept[distance:] * kept[:-distance]).mean())) < 0.0016  # four standard errors


def test_gradients_pass_where_values_do() -> None:
    torch.manual_seed(0)
    values = torch.randn(50, 40, requires_grad=True)
    out = Dropout(0.3)(values)
    out.sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad, out.detach() / values.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_type_and_seed_are_kept(dtype: torch.dtype) -> None:
    outs = []
    for _ in range(2):
        torch.manual_seed(3)
        outs.append(Dropout(0.4)(torch.ones(33, 3, dtype=dtype)))
    assert outs[0].dtype == dtype
    assert torch.equal(outs[0], outs[1])


def test_nothing_is_dropped_in_evaluation_or_without_a_share() -> None:
    values = torch.randn(5, 5)
    assert torch.equal(Dropout(0.9).eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)
    assert Dropout(1.0)(values).abs().max() == 0
