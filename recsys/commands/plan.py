"""`python -m recsys plan`: what a run needs, for every ZeRO stage and table layout, before paying for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.entry import hydra_command
from recsys.settings import check_range, read_own, read_settings

if TYPE_CHECKING:
    from recsys.parallel.planner.plan import Plan


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """The settings of conf/plan.yaml that belong to no group."""

    nodes: int
    gpus: int | None = None
    precision: str

    def __post_init__(self) -> None:
        check_range("nodes", self.nodes, least=1)
        if self.gpus is not None:
            check_range("gpus", self.gpus, least=1)


@dataclass(frozen=True, kw_only=True)
class PlannedTrainer:
    """What of conf/trainer/*.yaml a plan looks at. max_steps: -1 for as many as the epochs have."""

    max_epochs: int = 1
    max_steps: int = -1
    accumulate_grad_batches: int = 1

    def __post_init__(self) -> None:
        check_range("trainer.max_epochs", self.max_epochs, least=1)
        if self.max_steps != -1:
            check_range("trainer.max_steps", self.max_steps, least=1)
        check_range("trainer.accumulate_grad_batches", self.accumulate_grad_batches, least=1)


@hydra_command("plan")
def main(cfg: Any) -> None:
    from omegaconf import OmegaConf

    from recsys.parallel.planner.text import plan_lines

    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    plan, origin = plan_of(settings)
    print("\n".join([*plan_lines(plan), f"sizes: {origin}"]), flush=True)


def plan_of(settings: dict[str, Any]) -> tuple[Plan, str]:
    """The plan of composed settings, and where its sizes come from."""
    from recsys.build import ModelSettings
    from recsys.data.plan import PlanConfig
    from recsys.data.sample_config import SampleConfig
    from recsys.parallel.planner.cluster import Cluster
    from recsys.parallel.planner.layout import Precision, Run
    from recsys.parallel.planner.plan import make_plan
    from recsys.parallel.planner.sizes import BatchSettings, TableSizes, planned_config, sizes_of, workload_of
    from recsys.schema import InputError

    cluster = read_settings(Cluster, settings["cluster"], where="cluster")
    samples = read_settings(SampleConfig, settings["data"]["samples"], where="data.samples")
    tokens = read_settings(PlanConfig, settings["data"]["plan"], where="data.plan").tokens
    metadata = _metadata(settings)
    asked = {name: value for name, value in settings["sizes"].items() if value is not None}
    known = sizes_of(metadata) if metadata else {"filter_seen": bool(settings["dataset"]["filter_seen"])}
    if "num_items" in asked:
        known.pop("capacity", None)  # that of the tables is for their own items
    sizes = read_settings(TableSizes, known | asked, where="sizes")
    own, model = (
        read_own(PlanSettings, settings),
        read_settings(ModelSettings, settings["model"], where="model"),
    )
    trainer = read_own(PlannedTrainer, settings["trainer"], where="trainer")
    nodes, gpus = own.nodes, own.gpus
    if gpus is not None and (nodes != 1 or gpus > cluster.gpus_per_node):
        raise InputError(
            f"gpus={gpus} is for part of one node; leave it out or take nodes=1 and at most its GPUs"
        )
    run = Run(
        num_gpus=gpus or nodes * cluster.gpus_per_node,
        gpus_per_node=cluster.gpus_per_node,
        precision=Precision.of(own.precision),
        accumulate=trainer.accumulate_grad_batches,
        table_optimizer=model.table_optimizer,
    )
    plan = make_plan(
        cluster=cluster,
        run=run,
        config=planned_config(sizes=sizes, settings=model, max_length=samples.max_length),
        sizes=sizes,
        work=workload_of(
            read_settings(BatchSettings, settings["batch"], where="batch"),
            sizes=sizes,
            max_length=samples.max_length,
            num_negatives=samples.num_negatives,
            tokens=tokens,
            num_shares=run.num_gpus * run.accumulate,
        ),
        num_epochs=trainer.max_epochs,
        max_steps=trainer.max_steps if trainer.max_steps > 0 else None,
    )
    origin = f"feature tables {metadata['version']}" if metadata else "defaults (no feature tables found)"
    origin += "".join(f", {name} given" for name in asked)
    if settings["batch"]["tokens_per_gpu"] is None and plan.events_of_a_step > tokens:
        origin += f"; data.plan.tokens={tokens} is less than a row a GPU, so every GPU was given one"
    return plan, origin


def _metadata(settings: dict[str, Any]) -> dict[str, Any] | None:
    """Of the feature tables, where they have been built."""
    from recsys.data.tables import FeatureTables, resolve_tables
    from recsys.schema import Table

    folder = Path(settings["features_dir"]) / settings["dataset"]["name"] / str(settings["version"])
    if not (folder / Table.METADATA).is_file():
        return None
    tables_dir = resolve_tables(
        features_dir=settings["features_dir"],
        dataset=settings["dataset"]["name"],
        version=settings["version"],
    )
    return FeatureTables(tables_dir=tables_dir, cache_dir=settings["cache_dir"]).metadata
