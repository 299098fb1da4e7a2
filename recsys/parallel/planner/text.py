"""A plan as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from recsys.parallel.planner.plan import LayoutPlan, Plan

_SCALES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def short(value: float, unit: str = "") -> str:
    """Three digits with a decimal prefix: 1.23 GB."""
    for scale, prefix in _SCALES:
        if abs(value) >= scale:
            return f"{value / scale:.3g} {prefix}{unit}".replace("e+03", "000")
    return f"{value:.3g} {unit}".rstrip()


_MEMORY = ("layout", "param.", "grad.", "optim.", "table", "activ.", "catal.", "buffers", "total", "fits")
_SENT = ("layout", "within", "between")
_ALONE = ("compute", "memory", "within", "between", "bound by")
_COST = ("step ms", "MFU", "days", "GPU-hours")


def plan_lines(plan: Plan) -> list[str]:
    """Predicted figures of every layout."""
    cluster = plan.cluster
    unfit = [p.layout.name for p in plan.layouts if not p.fits]
    room = cluster.memory_gb - cluster.reserve_gb
    best = plan.fastest()
    return [
        *_assumed(plan),
        "",
        "Memory of a GPU in GB",
        *_table([*_MEMORY], (_memory_row(p) for p in plan.layouts)),
        "",
        f"Step: {short(plan.layouts[0].time.flops, 'FLOP')} a GPU; bytes it sends within its node and "
        f"to others; ms of each alone at stated rates; cost of {short(plan.num_events)} events",
        *_table([*_SENT, *_ALONE, *_COST], (_time_row(p) for p in plan.layouts)),
        "",
        f"do not fit into {room:g} GB: {'; '.join(unfit) if unfit else 'none, all layouts fit'}",
        f"fastest that fits: {best.layout.name}" if best else "no layout fits: take more GPUs or fewer items",
        "not counted: starting kernels, reading data, checkpoints, evaluation; every row is taken as full",
        *(f"source: {source}" for source in cluster.sources),
    ]


def _assumed(plan: Plan) -> list[str]:
    run, work = plan.run, plan.work
    all_items = " (the whole catalogue)" if work.looks_at_all else ""
    return [
        f"{run.num_gpus} GPUs of {plan.cluster.name} ({run.gpus_per_node} a node), {run.precision.name}; "
        "everything below is predicted, nothing measured",
        f"model: {short(plan.size.num_dense)} dense parameters, item tables of "
        f"{short(plan.size.table_rows)} rows x {plan.size.table_columns}",
        f"step: {work.rows} rows x {work.events} events a GPU, {run.accumulate} micro batches, "
        f"{work.queries} queries, {short(work.candidates)} candidates{all_items}; "
        f"{short(plan.events_of_a_step)} events in all",
    ]


def _memory_row(p: LayoutPlan) -> list[str]:
    m = p.memory
    parts = (m.parameters, m.gradients, m.optimizer, m.table, m.activations, m.catalogue, m.buffers, m.total)
    return [p.layout.name, *(f"{part / 1e9:.3f}" for part in parts), "yes" if p.fits else "NO"]


def _time_row(p: LayoutPlan) -> list[str]:
    t = p.time
    alone = (t.compute_s, t.memory_s, t.within_s, t.between_s)
    return [
        p.layout.name,
        short(p.sent.within, "B"),
        short(p.sent.between, "B"),
        *(f"{1e3 * seconds:.3f}" for seconds in alone),
        t.bound,
        f"{1e3 * t.expected_s:.3f}",
        f"{t.mfu:.1%}",
        f"{p.days:.3g}",
        f"{p.gpu_hours:.4g}",
    ]


def _table(header: list[str], rows: Iterable[list[str]]) -> list[str]:
    all_rows = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*all_rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in all_rows
    ]
