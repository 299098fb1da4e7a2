"""Sizes a plan starts from: what the tables hold and what one step looks at."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recsys.build import ModelSettings, bin_ends
from recsys.data.cooccurrence import MAX_DENSE_ITEMS
from recsys.data.cut_features import num_cut_features
from recsys.data.popularity import PERIOD_DAYS
from recsys.nn.item_tower import ItemTowerConfig
from recsys.nn.user_model import UserModelConfig
from recsys.nn.value_heads import ValueHeadsConfig
from recsys.schema import SECONDS_PER_DAY, InputError, SplitKind, UserNumeric
from recsys.settings import check_range

HEADROOM = 1.2  # rows of the item table over the items known now, as the tables are built


@dataclass(frozen=True, kw_only=True)
class TableSizes:
    """What the feature tables hold; the defaults stand for a shop nobody has built tables of yet.

    num_events: learned from in one epoch. num_periods: weeks with a popularity of their own.
    words_per_item: columns of the padded text. num_activity: numbers that describe a user at a cut.
    capacity: rows of the id table; None: `HEADROOM` over the items.
    """

    num_items: int = 1_000_000
    num_events: int = 1_000_000_000
    capacity: int | None = None
    field_sizes: list[int] = dataclasses.field(default_factory=lambda: [1_000, 10])
    num_numeric: int = 1
    num_tokens: int = 20_000
    words_per_item: int = 16
    profile_sizes: list[int] = dataclasses.field(default_factory=lambda: [100])
    num_event_types: int = 4
    num_periods: int = 52
    horizons_days: list[int] = dataclasses.field(default_factory=lambda: [7, 30, 90])
    num_activity: int = len(UserNumeric.ALL)
    has_time: bool = True
    has_dwell: bool = False
    filter_seen: bool = False

    def __post_init__(self) -> None:
        for name in ("num_items", "num_events", "words_per_item", "num_event_types", "num_periods"):
            check_range(f"sizes.{name}", getattr(self, name), least=1)
        for name in ("num_numeric", "num_tokens"):
            check_range(f"sizes.{name}", getattr(self, name), least=0)
        for name in ("field_sizes", "profile_sizes", "horizons_days"):
            for size in getattr(self, name):
                check_range(f"sizes.{name}", size, least=1)
        if self.capacity is not None and self.capacity < self.num_items:
            raise InputError(
                f"sizes.capacity {self.capacity} is below sizes.num_items {self.num_items}; raise it"
            )

    @property
    def rows(self) -> int:
        """Rows of the id table, padding included."""
        return 1 + (self.capacity or math.ceil(HEADROOM * self.num_items))


def sizes_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of TableSizes that the metadata of feature tables knows."""
    first, last = metadata["date_range"]
    is_time_split = metadata["split"]["kind"] == SplitKind.TIME
    return {
        "num_items": int(metadata["num_items"]),
        "capacity": int(metadata["item_capacity"]),
        "field_sizes": [int(f["size"]) for f in metadata["item_fields"]],
        "num_numeric": len(metadata["item_numeric"]),
        "num_tokens": int(metadata["num_tokens"]),
        "profile_sizes": [int(f["size"]) for f in metadata["profile_fields"]],
        "num_event_types": max(metadata["event_types"].values()),
        "num_periods": 1 + int(last - first) // (PERIOD_DAYS * SECONDS_PER_DAY) if is_time_split else 1,
        "horizons_days": [int(h) for h in metadata["split"]["horizons_days"]],
        "num_activity": len(metadata.get("user_numeric", UserNumeric.ALL)),
        "has_time": bool(metadata["has_time"]) and is_time_split,
        "has_dwell": bool(metadata.get("has_dwell")),
        "filter_seen": bool(metadata["filter_seen"]),
        "num_events": int(metadata["row_counts"]["rows_kept"]),
    }


def planned_config(*, sizes: TableSizes, settings: ModelSettings, max_length: int) -> UserModelConfig:
    """The architecture that training would build from tables of these sizes."""
    horizons, heads = tuple(sizes.horizons_days), None
    if sizes.has_time and horizons:
        heads = ValueHeadsConfig(
            width=settings.width,
            num_heads=settings.num_heads,
            num_features=num_cut_features(sizes.num_activity),
            horizons_days=horizons,
            bin_ends_days=bin_ends(horizons),
            log_spend=(0.0,) * len(horizons),
            dropout=settings.value_dropout,
        )
    return UserModelConfig(
        item_tower=ItemTowerConfig(
            capacity=sizes.rows - 1,
            field_sizes=tuple(sizes.field_sizes),
            num_numeric=sizes.num_numeric,
            num_tokens=sizes.num_tokens,
            width=settings.width,
            id_dropout=settings.id_dropout,
        ),
        value_heads=heads,
        num_event_types=sizes.num_event_types,
        profile_sizes=tuple(sizes.profile_sizes),
        has_time=sizes.has_time,
        has_dwell=sizes.has_dwell,
        width=settings.width,
        score_width=settings.score_width,
        num_blocks=settings.num_blocks,
        num_heads=settings.num_heads,
        max_length=max_length,
        dropout=settings.dropout,
        user_dropout=settings.user_dropout,
        temperature=settings.temperature,
        activation_checkpointing=settings.activation_checkpointing,
        repeats=settings.repeats and sizes.has_time and not sizes.filter_seen,
        num_neighbours=settings.num_neighbours
        if sizes.has_time and sizes.num_items <= MAX_DENSE_ITEMS
        else 0,
    )


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One micro batch on one GPU. `looks_at_all`: the step takes the whole catalogue, not candidates."""

    rows: int
    events: int  # of a row, padding included
    queries: int
    targets: int
    own: int  # distinct items of a row
    candidates: int  # items a step looks at, padding included
    cuts: int  # of a row
    periods: int
    words: int
    looks_at_all: bool = False

    @property
    def positions(self) -> int:
        """Places of the sequences, the start token included."""
        return self.rows * (self.events + 1)


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """What a GPU is given in a micro batch; counts that only the data knows are assumptions here.

    tokens_per_gpu: events, padding included; None: data.plan.tokens dealt over the GPUs.
    """

    tokens_per_gpu: int | None = None
    queries_per_row: int = 12
    targets_per_query: int = 8
    cuts_per_row: int = 4

    def __post_init__(self) -> None:
        for name in ("tokens_per_gpu", "queries_per_row", "targets_per_query", "cuts_per_row"):
            if getattr(self, name) is not None:
                check_range(f"batch.{name}", getattr(self, name), least=1)


def workload_of(
    batch: BatchSettings,
    *,
    sizes: TableSizes,
    max_length: int,
    num_negatives: int,
    tokens: int,
    num_shares: int,
) -> Workload:
    """A micro batch of full rows; `num_shares` is GPUs x accumulation. At least one row, as training deals.

    Candidates are the drawn negatives and the batch's own items and targets, none twice: an upper bound.
    """
    on_gpu = tokens // num_shares if batch.tokens_per_gpu is None else batch.tokens_per_gpu
    rows = max(1, on_gpu // max_length)
    queries = rows * batch.queries_per_row
    targets = queries * batch.targets_per_query
    own = min(max_length, sizes.num_items)
    looks_at_all = sizes.num_items <= num_negatives
    drawn = num_negatives + rows * own + targets
    return Workload(
        rows=rows,
        events=max_length,
        queries=queries,
        targets=targets,
        own=own,
        candidates=1 + (sizes.num_items if looks_at_all else min(drawn, sizes.num_items)),
        cuts=batch.cuts_per_row,
        periods=sizes.num_periods,
        words=sizes.words_per_item,
        looks_at_all=looks_at_all,
    )
