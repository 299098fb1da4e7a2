"""Bytes that each GPU sends a step, within its node and to others.

Collectives of ZeRO go round rings (Patarasuk and Yuan 2009) through all GPUs, node by node: of a node's hops
one leaves it, and rings are dealt so that its GPUs share it. Lookups in sharded tables ask all ranks alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from recsys.parallel.planner.layout import Layout, Run
from recsys.parallel.planner.model_size import ModelSize
from recsys.parallel.planner.sizes import Workload

INDEX_BYTES, FLOAT_BYTES = 8, 4


@dataclass(frozen=True)
class Sent:
    """Bytes a step."""

    within: float
    between: float


def engine_sent(layout: Layout, *, run: Run, size: ModelSize, recomputes: bool = False) -> Sent:
    """Gradients and parameters of what the engine trains (Rajbhandari et al. 2020, section 7).

    A reduction to shares sends n, a gathering of shares n. Stages 0 and 1 reduce once a step, 2 and 3 every
    micro batch; stage 3 gathers the parameters for forward, again for backward, and once more where blocks
    are computed again in between.
    """
    n = size.num_parameters if layout.tables == "replicated" else size.num_dense
    weight = gradient = run.precision.weight_bytes(layout.stage)
    of_an_element = {
        0: 2 * gradient,
        1: gradient + weight,
        2: run.accumulate * gradient + weight,
        3: run.accumulate * (gradient + (3 if recomputes else 2) * weight),
    }[layout.stage]
    total = n * of_an_element * run.others
    on_node = min(run.gpus_per_node, run.num_gpus)
    between = total / on_node if run.num_gpus > run.gpus_per_node else 0.0
    return Sent(total - between, between)


def table_sent(layout: Layout, *, run: Run, size: ModelSize, work: Workload) -> Sent:
    """Per candidate: its index out, its rows back, their gradients out."""
    if layout.tables == "replicated":
        return Sent(0.0, 0.0)
    an_item = INDEX_BYTES + 2 * FLOAT_BYTES * size.table_columns
    total = run.accumulate * work.candidates * an_item
    between = total * run.others_between
    return Sent(total * run.others - between, between)
