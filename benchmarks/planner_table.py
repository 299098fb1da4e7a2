"""The table of predictions in docs/planner.md, as Markdown: python benchmarks/planner_table.py

Nothing here is measured. Large batches, since small ones leave GPUs idle whatever their number.
"""

from __future__ import annotations

from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from recsys.commands.plan import plan_of
from recsys.entry import conf_dir
from recsys.parallel.planner.layout import Layout
from recsys.parallel.planner.plan import LayoutPlan, Plan

GPUS = (1, 8, 64, 1024)
NUM_ITEMS = (10**7, 10**8, 10**9)
NUM_EVENTS = 10**11
MODELS = ("base", "large_1b")
TOKENS_PER_GPU = 16_384


def planned(*, model: str, gpus: int, num_items: int) -> Plan:
    """On H100 nodes, from the defaults alone: tables of this machine do not count."""
    size = f"gpus={gpus}" if gpus <= 8 else f"nodes={gpus // 8}"
    overrides = [
        f"model={model}",
        size,
        f"sizes.num_items={num_items}",
        f"sizes.num_events={NUM_EVENTS}",
        f"batch.tokens_per_gpu={TOKENS_PER_GPU}",
        "trainer.max_epochs=1",
        "features_dir=none",
    ]
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        settings: Any = OmegaConf.to_container(compose("plan", overrides=overrides), resolve=True)
    return plan_of(settings)[0]


def row(model: str, num_items: int, gpus: int) -> list[str]:
    """Memory under ZeRO-2 two ways, and the time of the fastest layout that fits."""
    plan = planned(model=model, gpus=gpus, num_items=num_items)
    best = plan.fastest()
    memories = [_of(plan, "replicated"), _of(plan, "sharded")]
    head = [model, f"{num_items:.0e}".replace("e+0", "e"), str(gpus), *map(_memory, memories)]
    if best is None:
        return [*head, "none fits", *["–"] * 5]
    return [
        *head,
        best.layout.name,
        f"{1e3 * best.time.expected_s:.0f}",
        best.time.bound,
        f"{best.time.mfu:.0%}",
        f"{best.days:.3g}",
        f"{best.gpu_hours:,.0f}",
    ]


def _of(plan: Plan, tables: str) -> LayoutPlan:
    return next(p for p in plan.layouts if p.layout == Layout(2, tables))


def _memory(p: LayoutPlan) -> str:
    return f"{p.memory.total / 1e9:.1f}" if p.fits else f"({p.memory.total / 1e9:,.0f})"


def main() -> None:
    columns = [
        "model", "items", "GPUs", "replicated, GB", "sharded, GB",
        "fastest that fits", "step, ms", "bound by", "MFU", "days", "GPU-hours",
    ]  # fmt: skip
    rows = [row(m, n, g) for m in MODELS for n in NUM_ITEMS for g in GPUS]
    for line in (columns, ["---"] * len(columns), *rows):
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
