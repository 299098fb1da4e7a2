"""Model states of each stage: the figures of the ZeRO paper, and what two real ranks hold."""

from __future__ import annotations

from typing import Any

import pytest

from recsys.parallel.planner.layout import Precision, Run
from recsys.parallel.planner.memory import engine_bytes
from tests.parallel.planner.held import RUNS, HeldRun, predicted_bytes
from tests.parallel.ranks import on_ranks


@pytest.mark.parametrize(("stage", "gigabytes"), [(1, 31.4), (2, 16.6), (3, 1.9)])
def test_the_paper_has_7_5_billion_parameters_on_64_gpus(stage: int, gigabytes: float) -> None:
    """Rajbhandari et al. 2020, figure 1. Its stage 1 keeps all gradients, as accumulation does."""
    shapes = {str(k): (1000, 1000) for k in range(7500)}
    run = Run(num_gpus=64, gpus_per_node=16, precision=Precision.of("bf16-mixed"), accumulate=2)
    assert sum(engine_bytes(shapes, stage, run)) / 1e9 == pytest.approx(gigabytes, abs=0.05)


def test_a_gradient_across_two_stretches_is_kept_whole_by_both() -> None:
    """Two ranks of 50: the middle parameter reaches into both."""
    run = Run(num_gpus=2, gpus_per_node=8, precision=Precision.of("32-true"))
    shapes = {"a": (10, 1), "b": (60, 1), "c": (30, 1)}
    assert engine_bytes(shapes, 2, run) == (4 * 100, 4 * 90, 12 * 50)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> dict[HeldRun, list[dict[str, int]]]:
    pytest.importorskip("deepspeed")
    found = on_ranks(2, [run.case() for run in RUNS], tmp_path_factory.mktemp("ranks"))
    return dict(zip(RUNS, found, strict=True))


@pytest.mark.distributed
@pytest.mark.timeout(900)
@pytest.mark.parametrize("run", RUNS, ids=str)
def test_two_real_ranks_hold_what_was_predicted(held: Any, run: HeldRun) -> None:
    for name, predicted in predicted_bytes(run).items():
        assert predicted == pytest.approx(max(rank[name] for rank in held[run]), rel=0.01), name
