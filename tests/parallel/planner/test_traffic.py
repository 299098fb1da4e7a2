"""Bytes sent and time of a step, by hand."""

from __future__ import annotations

import pytest

from recsys.parallel.planner.layout import Layout, Precision, Run
from recsys.parallel.planner.model_size import ModelSize
from recsys.parallel.planner.traffic import engine_sent, table_sent
from tests.parallel.planner.step import planned

SIZE = ModelSize({"item_tower.lookup.weight": (11, 4), "item_bias.weight": (11, 1), "dense": (100, 10)}, 0)


def run(*, num_gpus: int, accumulate: int = 1) -> Run:
    return Run(
        num_gpus=num_gpus,
        gpus_per_node=8,
        precision=Precision.of("bf16-mixed"),
        accumulate=accumulate,
    )


@pytest.mark.parametrize(
    ("stage", "accumulate", "bytes_a_parameter"),
    [(0, 1, 8), (1, 1, 4), (2, 1, 4), (3, 1, 6), (0, 4, 8), (1, 4, 4), (2, 4, 10), (3, 4, 24)],
)
def test_collectives_of_each_stage(stage: int, accumulate: int, bytes_a_parameter: int) -> None:
    """16 GPUs on two nodes send 15/16 of it, an eighth of that to the other node; DDP float32 twice."""
    sent = engine_sent(Layout(stage, "sharded"), run=run(num_gpus=16, accumulate=accumulate), size=SIZE)
    assert sent.within + sent.between == pytest.approx(1000 * bytes_a_parameter * 15 / 16)
    assert sent.between == pytest.approx((sent.within + sent.between) / 8)


def test_blocks_that_are_computed_again_are_gathered_again() -> None:
    for stage, bytes_a_parameter in ((2, 4), (3, 8)):
        sent = engine_sent(Layout(stage, "sharded"), run=run(num_gpus=16), size=SIZE, recomputes=True)
        assert sent.within + sent.between == pytest.approx(1000 * bytes_a_parameter * 15 / 16)


def test_replicated_tables_are_sent_whole_and_one_gpu_sends_nothing() -> None:
    whole = engine_sent(Layout(1, "replicated"), run=run(num_gpus=8), size=SIZE)
    assert (whole.within, whole.between) == (pytest.approx(4 * 1055 * 7 / 8), 0)
    alone = engine_sent(Layout(1, "replicated"), run=run(num_gpus=1), size=SIZE)
    assert (alone.within, alone.between) == (0, 0)


def test_lookups_of_sharded_tables() -> None:
    """A candidate: 8 bytes of index out, 5 float32 back, 5 of gradient; 8 of 16 ranks are elsewhere."""
    _, work = planned()
    parts = {"size": SIZE, "work": work}
    sent = table_sent(Layout(2, "sharded"), run=run(num_gpus=16), **parts)
    assert sent.between == pytest.approx(work.candidates * 48 * 8 / 16)
    assert sent.within == pytest.approx(work.candidates * 48 * 7 / 16)
