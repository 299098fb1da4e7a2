"""FLOPs against a counted step, activations against what autograd and the allocator say of a real one."""

from __future__ import annotations

import pytest

from recsys.build import ModelSettings
from recsys.parallel.planner.activations import peak_bytes, saved_bytes
from recsys.parallel.planner.flops import products, step_flops
from recsys.parallel.planner.sizes import BatchSettings
from tests.parallel.planner.step import (
    CASES,
    SIZES,
    counted_flops,
    measured_peak_bytes,
    measured_saved_bytes,
    planned,
)


@pytest.mark.parametrize("case", CASES)
def test_flops_are_those_of_a_counted_step(case: str) -> None:
    config, work = planned(**CASES[case])
    counted = counted_flops(config, CASES[case].get("sizes", SIZES), work)
    assert step_flops(config, work) == pytest.approx(counted, rel=0.01)


def test_a_block_by_hand() -> None:
    """2 rows of 3 events, 8 positions: 22 D^2 FLOPs a position forward, 4 (L + 1)^2 D a row of attention."""
    settings = ModelSettings(width=8, score_width=4, num_blocks=1, num_heads=2)
    config, work = planned(settings=settings, max_length=3, batch=BatchSettings(tokens_per_gpu=6))
    found = {product.part: product.step for product in products(config, work)}
    assert found["blocks"] == 3 * 22 * 8 * 8 * 8
    assert found["block attention"] == 3 * 2 * 4 * 4 * 4 * 8


@pytest.mark.parametrize("case", CASES)
def test_saved_tensors_are_those_of_a_real_step(case: str) -> None:
    config, work = planned(**CASES[case])
    measured = measured_saved_bytes(config, CASES[case].get("sizes", SIZES), work)
    predicted = saved_bytes(config, work, activation_bytes=4, fused=False)
    assert sum(predicted.values()) == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize("case", CASES)
def test_the_peak_is_that_of_a_real_step(case: str) -> None:
    config, work = planned(**CASES[case])
    measured = measured_peak_bytes(config, CASES[case].get("sizes", SIZES), work)
    predicted = peak_bytes(config, work, activation_bytes=4, fused=False)
    assert predicted == pytest.approx(measured, rel=0.15)
