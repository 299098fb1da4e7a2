"""A training step of given sizes with random content: what the planner's formulas are held against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any
from unittest import mock

import torch
import torch.nn as nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from recsys.batch import Candidates, Catalogue, CutQueries, Histories, ItemQueries, TrainBatch
from recsys.build import ModelSettings
from recsys.module import ObjectiveConfig, UserModule
from recsys.nn import linear
from recsys.nn.norm import RMSNorm
from recsys.nn.user_model import NUM_POPULARITY, UserModel, UserModelConfig
from recsys.parallel.planner.sizes import BatchSettings, TableSizes, Workload, planned_config, workload_of
from recsys.schema import SECONDS_PER_DAY
from recsys.training import AdamW, WarmupCosine

SIZES = TableSizes(num_items=3_000, field_sizes=[7, 5], num_tokens=90, words_per_item=5, num_periods=6)
BATCH = BatchSettings(tokens_per_gpu=256, queries_per_row=6, targets_per_query=3, cuts_per_row=3)
SETTINGS = ModelSettings(width=48, score_width=32, num_blocks=3, num_heads=4)

CASES: dict[str, dict[str, Any]] = {
    "blocks": {"settings": ModelSettings(width=96, score_width=48, num_blocks=5, num_heads=4)},
    "scores": {"num_negatives": 2500, "batch": BatchSettings(tokens_per_gpu=256, queries_per_row=40)},
    "whole catalogue": {
        "sizes": TableSizes(num_items=500, field_sizes=[7], num_tokens=90, words_per_item=5, num_periods=6),
        "num_negatives": 1000,
    },
    "activation checkpointing": {
        "settings": ModelSettings(
            width=96, score_width=48, num_blocks=5, num_heads=4, activation_checkpointing=True
        )
    },
    "no cross-attention": {"settings": ModelSettings(cross_attention=False)},
    "long rows": {"max_length": 250, "batch": BatchSettings(tokens_per_gpu=1000)},
}


def planned(
    *,
    sizes: TableSizes = SIZES,
    batch: BatchSettings = BATCH,
    settings: ModelSettings = SETTINGS,
    max_length: int = 40,
    num_negatives: int = 200,
) -> tuple[UserModelConfig, Workload]:
    config = planned_config(sizes=sizes, settings=settings, max_length=max_length)
    work = workload_of(
        batch, sizes=sizes, max_length=max_length, num_negatives=num_negatives, tokens=2048, num_shares=1
    )
    return config, work


def catalogue_of(item_V: torch.Tensor, sizes: TableSizes) -> Catalogue:
    items = len(item_V)
    return Catalogue(
        item_V=item_V,
        categorical_VF=torch.stack([torch.randint(0, s + 1, (items,)) for s in sizes.field_sizes], 1),
        numeric_VN=torch.randn(items, sizes.num_numeric),
        tokens_VT=torch.randint(0, sizes.num_tokens + 1, (items, sizes.words_per_item)),
        in_training_V=torch.arange(items) > 0,
        popularity_TVW=torch.randn(sizes.num_periods, items, NUM_POPULARITY),
    )


def module_of(config: UserModelConfig, sizes: TableSizes, work: Workload) -> UserModule:
    torch.manual_seed(0)
    return UserModule(
        model=UserModel(config),
        catalogue=catalogue_of(torch.arange(sizes.num_items + 1), sizes) if work.looks_at_all else None,
        objective=ObjectiveConfig(),
        optimizer=AdamW(lr=0.01),
        scheduler=WarmupCosine(),
    ).train()


def batch_of(config: UserModelConfig, sizes: TableSizes, work: Workload) -> TrainBatch:
    """Full rows of distinct items."""
    B, L, V, Q, P = work.rows, work.events, work.candidates, work.queries, work.targets
    heads = config.value_heads
    assert heads is not None
    of_cuts, horizons = (B, work.cuts), len(heads.horizons_days)
    return TrainBatch(
        histories=Histories(
            item_BL=torch.stack([torch.randperm(V - 1)[:L] + 1 for _ in range(B)]),
            event_type_BL=torch.randint(1, config.num_event_types + 1, (B, L)),
            timestamp_BL=torch.arange(L).repeat(B, 1) * SECONDS_PER_DAY,
            value_BL=torch.rand(B, L),
            length_B=torch.full((B,), L),
            profile_BF=torch.ones(B, len(sizes.profile_sizes), dtype=torch.long),
        ),
        items=ItemQueries(
            row_Q=torch.randint(0, B, (Q,)).sort()[0],
            length_Q=torch.randint(1, L + 1, (Q,)),
            weight_Q=torch.ones(Q),
            period_Q=torch.randint(0, work.periods, (Q,)),
            discovers_Q=torch.rand(Q) < 0.5,
            target_query_P=torch.randint(0, Q, (P,)).sort()[0],
            target_item_P=torch.randint(1, V, (P,)),
        ),
        cuts=CutQueries(
            mask_BC=torch.ones(of_cuts, dtype=torch.bool),
            length_BC=torch.randint(1, L + 1, of_cuts),
            features_BCR=torch.randn(*of_cuts, heads.num_features),
            spend_BCH=torch.rand(*of_cuts, horizons),
            observed_BCH=torch.ones(*of_cuts, horizons, dtype=torch.bool),
            next_active_days_BC=30 * torch.rand(of_cuts),
            observed_days_BC=torch.full(of_cuts, 60.0),
            converted_BC=torch.rand(of_cuts) < 0.5,
        ),
        candidates=None
        if work.looks_at_all
        else Candidates(catalogue_of(_candidates(sizes, work), sizes), torch.rand(V), torch.arange(1, V)),
        total_weight=float(Q),
        total_cuts=B * work.cuts,
        position=(0, 1),
    )


def _candidates(sizes: TableSizes, work: Workload) -> torch.Tensor:
    drawn = torch.randperm(sizes.num_items)[: work.candidates - 1].sort()[0] + 1
    return torch.cat([torch.tensor([0]), drawn])


@contextmanager
def way_of_an_accelerator() -> Iterator[None]:
    """Not a processor's, which is not planned: it fills rows up and keeps other tensors."""
    with (
        mock.patch.object(linear, "_has_exact_onednn", return_value=False),
        mock.patch.object(RMSNorm, "forward", nn.RMSNorm.forward),
    ):
        yield


@way_of_an_accelerator()
def counted_flops(config: UserModelConfig, sizes: TableSizes, work: Workload) -> int:
    """Of a real step, attention as plain products."""
    module, batch = module_of(config, sizes, work), batch_of(config, sizes, work)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        torch.stack(list(module.losses(batch).values())).sum().backward()
    return int(counter.get_total_flops())


@way_of_an_accelerator()
def measured_saved_bytes(config: UserModelConfig, sizes: TableSizes, work: Workload) -> int:
    """Bytes of the memory that autograd keeps, without parameters, the catalogue and the batch."""
    module, batch = module_of(config, sizes, work), batch_of(config, sizes, work)
    parts: list[Any] = [batch.histories, batch.items, batch.cuts]
    if batch.candidates is not None:
        parts += [batch.candidates.catalogue, [batch.candidates.log_weight_V]]
    given = [
        *module.parameters(),
        *module.buffers(),
        *(t for part in parts for t in part if torch.is_tensor(t)),
    ]
    addresses = {t.untyped_storage().data_ptr() for t in given}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in addresses:
            kept.setdefault(address, tensor)  # held, so that no other memory gets its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = list(module.losses(batch).values())
    assert losses
    return sum(t.untyped_storage().nbytes() for t in kept.values())


@way_of_an_accelerator()
def measured_peak_bytes(config: UserModelConfig, sizes: TableSizes, work: Workload) -> int:
    """Most bytes that the allocator gave out in a step, from before forward to the end of backward, gradients
    of parameters being there already."""
    module, batch = module_of(config, sizes, work), batch_of(config, sizes, work)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        torch.stack(list(module.losses(batch).values())).sum().backward()
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(accumulate(nbytes for _, nbytes in changes))
