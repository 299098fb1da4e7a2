"""The framework's own training on a workload: its tables, loader, module and optimizer, step by step.

As `trainer=cpu` has it, gradients are clipped. Batches hold as many real events as those of a padded training
hold on the average, so that all contenders make as many steps an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch

import recsys.entry  # noqa: F401  (memory and threads as every command has them)
from benchmarks.contender import NUM_NEGATIVES, Training
from benchmarks.train_workloads import Workload
from recsys.batch import NextItems, TrainBatch
from recsys.build import ModelSettings, catalogue_at, model_config
from recsys.data.plan import ElasticLoader, PlanConfig
from recsys.data.sample_config import SampleConfig
from recsys.data.samples import TrainingSamples
from recsys.data.tables import FeatureTables
from recsys.module import ObjectiveConfig, UserModule
from recsys.nn.user_model import UserModel
from recsys.parallel.step_log import flops_per_token
from recsys.schema import Split
from recsys.training import AdamW, WarmupCosine

LEARNING_RATE, CLIP_NORM = 0.002, 1.0  # conf/optimizer, conf/trainer
COUNTED_BATCHES = 20  # of which the products are counted


def samples_of(workload: Workload, *, loss: str) -> TrainingSamples:
    """Built at the first call for a workload and loss, mapped at the others."""
    tables = FeatureTables(tables_dir=workload.folder / "tables", cache_dir=workload.folder / "cache")
    num_negatives = workload.num_items if loss == "full" else NUM_NEGATIVES
    config = SampleConfig(max_length=workload.size.max_length, num_negatives=num_negatives)
    return TrainingSamples(tables=tables, fit_until=Split.VALIDATION, config=config)


def module_of(workload: Workload, samples: TrainingSamples) -> UserModule:
    size = workload.size
    settings = ModelSettings(
        width=size.width,
        score_width=size.width,
        num_blocks=size.num_blocks,
        num_heads=size.num_heads,
        positions="rotary",  # this and the next as in conf/model/sequence.yaml
        cross_attention=False,
        dropout=size.dropout,
        user_dropout=size.dropout,
    )
    config = model_config(tables=samples.tables, samples=samples, settings=settings)
    catalogue = None
    if samples.content is None:
        catalogue = catalogue_at(samples.tables, samples.fit_until, times=samples.period_starts)
    return UserModule(
        model=UserModel(config),
        catalogue=catalogue,
        objective=ObjectiveConfig(),
        optimizer=AdamW(lr=LEARNING_RATE),
        scheduler=WarmupCosine(),
    )


def training(workload: Workload, *, loss: str, precision: str) -> Training:
    torch.manual_seed(0)
    samples = samples_of(workload, loss=loss)
    module = module_of(workload, samples).train()
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = module.make_optimizer(parameters)
    tokens = round(workload.size.batch_rows * workload.mean_length)
    loader = ElasticLoader(samples=samples, config=PlanConfig(tokens=tokens))

    def step(batch: TrainBatch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            parts = module.losses(batch)
        torch.stack([getattr(module.objective, name) * part for name, part in parts.items()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad()

    return Training(
        batches=iter(loader),
        step=step,
        num_targets=num_targets,
        flops_per_target=lambda: flops_per_target(module, iter(loader)),
    )


def num_targets(batch: TrainBatch) -> int:
    """Those with an event before them."""
    assert isinstance(batch.items, NextItems)
    num_positions = batch.histories.item_BL.shape[1] + 1
    return int((batch.items.position_N % num_positions > 0).sum())


def flops_per_target(module: UserModule, batches: Iterator[TrainBatch]) -> float:
    """By the planner's products, batches without padding."""
    flops = targets = 0.0
    for batch in islice(batches, COUNTED_BATCHES):
        tokens = float(batch.histories.length_B.sum())
        catalogue = batch.catalogue(module.catalogue)
        counts = {
            "rows": len(batch.histories.length_B),
            "tokens": tokens,
            **dict(zip(("queries", "targets"), batch.items.counts, strict=True)),
            "candidates": len(catalogue.item_V),
            "cuts": 0,
            "periods": len(catalogue.popularity_TVW),
        }
        flops += tokens * flops_per_token(module, counts)
        targets += num_targets(batch)
    return flops / targets
