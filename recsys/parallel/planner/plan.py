"""A plan: every layout with its memory, traffic, time and cost."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.nn.user_model import UserModelConfig
from recsys.parallel.planner.cluster import Cluster
from recsys.parallel.planner.layout import LAYOUTS, Layout, Run
from recsys.parallel.planner.memory import Memory, memory
from recsys.parallel.planner.model_size import ModelSize, model_size
from recsys.parallel.planner.roofline import StepTime, step_time
from recsys.parallel.planner.sizes import TableSizes, Workload
from recsys.parallel.planner.traffic import Sent, engine_sent, table_sent
from recsys.schema import SECONDS_PER_DAY


@dataclass(frozen=True)
class LayoutPlan:
    """What one layout needs; `days` are for all epochs."""

    layout: Layout
    memory: Memory
    sent: Sent
    time: StepTime
    fits: bool
    days: float
    gpu_hours: float


@dataclass(frozen=True)
class Plan:
    """`num_events` are those of the whole run, every epoch; a step's events include padding, here none."""

    cluster: Cluster
    run: Run
    config: UserModelConfig
    work: Workload
    size: ModelSize
    num_events: int
    layouts: tuple[LayoutPlan, ...]

    @property
    def events_of_a_step(self) -> int:
        return self.work.rows * self.work.events * self.run.accumulate * self.run.num_gpus

    def fastest(self) -> LayoutPlan | None:
        """Of those that fit, the one with the shortest step; of equals the one that leaves most memory."""
        fitting = [layout for layout in self.layouts if layout.fits]
        return min(fitting, key=lambda p: (round(p.time.expected_s, 9), p.memory.total), default=None)


def make_plan(
    *,
    cluster: Cluster,
    run: Run,
    config: UserModelConfig,
    sizes: TableSizes,
    work: Workload,
    num_epochs: int = 1,
    max_steps: int | None = None,
) -> Plan:
    """Every layout of `LAYOUTS`, for so many epochs; `max_steps` of the optimizer end them earlier."""
    size, num_events = model_size(config), sizes.num_events * num_epochs
    events_of_a_step = work.rows * work.events * run.accumulate * run.num_gpus
    if max_steps is not None:
        num_events = min(num_events, max_steps * events_of_a_step)
    steps = -(-num_events // events_of_a_step)
    layouts = []
    for layout in LAYOUTS:
        held = memory(layout, run=run, size=size, config=config, sizes=sizes, work=work)
        engine = engine_sent(layout, run=run, size=size, recomputes=config.activation_checkpointing)
        table = table_sent(layout, run=run, size=size, work=work)
        time = step_time(
            layout,
            run=run,
            cluster=cluster,
            config=config,
            work=work,
            size=size,
            memory=held,
            engine=engine,
            table=table,
        )
        days = steps * time.expected_s / SECONDS_PER_DAY
        layouts.append(
            LayoutPlan(
                layout=layout,
                memory=held,
                sent=Sent(engine.within + table.within, engine.between + table.between),
                time=time,
                fits=held.total <= 1e9 * (cluster.memory_gb - cluster.reserve_gb),
                days=days,
                gpu_hours=24 * days * run.num_gpus,
            )
        )
    return Plan(cluster, run, config, work, size, num_events, tuple(layouts))
