"""Time of a step from what it computes, reads and sends (roofline: Williams, Waterman and Patterson 2009)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from recsys.nn.user_model import UserModelConfig
from recsys.parallel.planner.activations import saved_bytes, working_bytes
from recsys.parallel.planner.cluster import Cluster
from recsys.parallel.planner.flops import step_flops
from recsys.parallel.planner.layout import Layout, Run
from recsys.parallel.planner.memory import Memory
from recsys.parallel.planner.model_size import ModelSize
from recsys.parallel.planner.sizes import Workload
from recsys.parallel.planner.traffic import Sent

TABLE_PASSES = 6  # a touched row is read, its gradient written and read, row and state read and written


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step. The first four are what each resource would take alone at its stated rate;
    `expected_s` is at attainable rates: ZeRO's traffic hides behind the work, lookups in tables do not. `mfu`
    leaves out what is computed again, as the log of a run does.
    """

    flops: int
    compute_s: float
    memory_s: float
    within_s: float
    between_s: float
    expected_s: float
    mfu: float

    @property
    def bound(self) -> str:
        return max(("compute", "memory", "within", "between"), key=lambda name: getattr(self, f"{name}_s"))


def step_time(
    layout: Layout,
    *,
    run: Run,
    cluster: Cluster,
    config: UserModelConfig,
    work: Workload,
    size: ModelSize,
    memory: Memory,
    engine: Sent,
    table: Sent,
) -> StepTime:
    flops = run.accumulate * step_flops(config, work)
    once = replace(config, activation_checkpointing=False)
    peak = cluster.flops_per_s(run.precision.name)
    compute_s = flops / peak
    memory_s = _moved(layout, run, config, work, size, memory) / (1e9 * cluster.memory_gb_s)
    engine_s = engine.within / (1e9 * cluster.within_gb_s), engine.between / (1e9 * cluster.between_gb_s)
    table_s = table.within / (1e9 * cluster.within_gb_s), table.between / (1e9 * cluster.between_gb_s)
    share = cluster.attainable
    hidden_s = max(
        compute_s / share.compute,
        memory_s / share.memory,
        engine_s[0] / share.within,
        engine_s[1] / share.between,
    )
    expected_s = hidden_s + max(table_s[0] / share.within, table_s[1] / share.between)
    return StepTime(
        flops=flops,
        compute_s=compute_s,
        memory_s=memory_s,
        within_s=engine_s[0] + table_s[0],
        between_s=engine_s[1] + table_s[1],
        expected_s=expected_s,
        mfu=run.accumulate * step_flops(once, work) / peak / expected_s,
    )


def _moved(
    layout: Layout, run: Run, config: UserModelConfig, work: Workload, size: ModelSize, memory: Memory
) -> float:
    """Bytes between a GPU and its memory: saved tensors and weights once each way, the optimizer's pass."""
    saved = saved_bytes(config, work, activation_bytes=run.precision.activation_bytes, fused=True)
    weights = run.precision.weight_bytes(layout.stage) * size.num_dense
    forward_and_backward = 2 * (sum(saved.values()) + working_bytes(work) + weights)
    rows = TABLE_PASSES * 4 * work.candidates * size.table_columns
    optimizer_pass = 2 * memory.gradients + 2 * memory.optimizer + memory.parameters
    return run.accumulate * (forward_and_backward + rows) + optimizer_pass
