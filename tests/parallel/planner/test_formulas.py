"""FLOPs against a counted step, activations against what autograd and the allocator say of a real one."""

from __future__ import annotations

from typing import Any

import pytest

from recsys.build import ModelSettings
from recsys.parallel.planner.activations import saved_bytes, working_bytes
from recsys.parallel.planner.flops import products, step_flops
from recsys.parallel.planner.sizes import BatchSettings, TableSizes
from tests.parallel.planner.step import (
    SIZES,
    counted_flops,
    measured_peak_bytes,
    measured_saved_bytes,
    planned,
)

CASES: dict[str, dict[str, Any]] = {
    "blocks": {"settings": ModelSettings(width=96, score_width=48, num_blocks=5, num_heads=4)},
    "scores": {"num_negatives": 2500, "batch": BatchSettings(tokens_per_gpu=256, queries_per_row=40)},
    "whole catalogue": {
        "sizes": TableSizes(num_items=500, field_sizes=[7], num_tokens=90, words_per_item=5, num_periods=6),
        "num_negatives": 1000,
    },
    "long rows": {"max_length": 250, "batch": BatchSettings(tokens_per_gpu=1000)},
}


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
    predicted = saved_bytes(config, work, activation_bytes=4, fused=False)
    assert sum(predicted.values()) + working_bytes(work) == pytest.approx(measured, rel=0.15)
