"""From feature tables and settings to a model and its catalogue: every size comes from the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from recsys.batch import Catalogue
from recsys.data.cooccurrence import MAX_DENSE_ITEMS
from recsys.data.popularity import popularity_at
from recsys.data.samples import TrainingSamples
from recsys.data.tables import FeatureTables
from recsys.nn.item_tower import ItemTowerConfig
from recsys.nn.user_model import POSITIONS, UserModelConfig
from recsys.nn.value_heads import ValueHeadsConfig
from recsys.schema import InputError
from recsys.settings import check_range

_MAX_PRIOR_QUERIES = 1_000_000
BIN_ENDS_DAYS = (1, 3, 7, 14, 30, 60, 90, 180, 365)


def bin_ends(horizons_days: Sequence[int]) -> tuple[int, ...]:
    """Days at which bins of the hazard end: the usual ones up to the last horizon, and every horizon."""
    usual = (days for days in BIN_ENDS_DAYS if days <= max(horizons_days))
    return tuple(sorted({*usual, *horizons_days}))


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What a user picks of the architecture; conf/model/*.yaml."""

    width: int = 64
    score_width: int = 64
    num_blocks: int = 2
    num_heads: int = 2
    positions: str = "learned"
    cross_attention: bool = True
    dropout: float = 0.2
    user_dropout: float = 0.3
    value_dropout: float = 0.85
    id_dropout: float = 0.1
    temperature: float = 0.07
    activation_checkpointing: bool = False
    repeats: bool = True
    num_neighbours: int = 20
    neighbour_strength: float = 5.0
    table: str = "replicated"  # or sharded: item rows dealt over the ranks; torchrec: the same by TorchRec
    table_optimizer: str = "rowwise_adagrad"  # or sparse_adam, sgd; of sharded tables
    table_lr: float = 0.02

    def __post_init__(self) -> None:
        for name, known in (
            ("positions", POSITIONS),
            ("table", ("replicated", "sharded", "torchrec")),
            ("table_optimizer", ("rowwise_adagrad", "sparse_adam", "sgd")),
        ):
            if getattr(self, name) not in known:
                raise InputError(f"model.{name} must be {' or '.join(known)}, not {getattr(self, name)!r}")
        for name in ("width", "score_width", "num_blocks", "num_heads"):
            check_range(f"model.{name}", getattr(self, name), least=1)
        for name in ("dropout", "user_dropout", "value_dropout", "id_dropout"):
            check_range(f"model.{name}", getattr(self, name), least=0, below=1)
        check_range("model.temperature", self.temperature, above=0, most=1)
        check_range("model.num_neighbours", self.num_neighbours, least=0)
        check_range("model.neighbour_strength", self.neighbour_strength, least=0)


def catalogue_at(tables: FeatureTables, split: str, times: np.ndarray | None = None) -> Catalogue:
    """Content of every item as known at the cut of a split, popularity at the cut (or at each of `times`)."""
    items = tables.items(split)
    times = np.array([tables.cut(split)]) if times is None else times
    return Catalogue(
        item_V=torch.arange(tables.num_items + 1),
        categorical_VF=torch.from_numpy(items.categorical),
        numeric_VN=torch.from_numpy(items.numeric),
        tokens_VT=torch.from_numpy(items.tokens),
        in_training_V=torch.from_numpy(items.in_training),
        popularity_TVW=torch.from_numpy(popularity_at(tables, times)),
    )


def model_config(
    *, tables: FeatureTables, samples: TrainingSamples, settings: ModelSettings
) -> UserModelConfig:
    """Sizes from the metadata, priors of the value heads from the training cuts."""
    metadata = tables.metadata
    return UserModelConfig(
        item_tower=ItemTowerConfig(
            capacity=int(metadata["item_capacity"]),
            field_sizes=tuple(int(f["size"]) for f in metadata["item_fields"]),
            num_numeric=len(metadata["item_numeric"]),
            num_tokens=int(metadata["num_tokens"]),
            width=settings.width,
            id_dropout=settings.id_dropout,
        ),
        value_heads=_value_heads(tables, samples, settings),
        num_event_types=max(metadata["event_types"].values()),
        profile_sizes=tuple(int(f["size"]) for f in metadata["profile_fields"]),
        has_time=tables.has_time,
        has_dwell=bool(metadata.get("has_dwell")),
        has_queries=bool(metadata.get("has_queries")) and bool(metadata["num_tokens"]),
        width=settings.width,
        score_width=settings.score_width,
        num_blocks=settings.num_blocks,
        num_heads=settings.num_heads,
        max_length=samples.config.max_length,
        positions=settings.positions,
        cross_attention=settings.cross_attention,
        dropout=settings.dropout,
        user_dropout=settings.user_dropout,
        temperature=settings.temperature,
        activation_checkpointing=settings.activation_checkpointing,
        repeats=settings.repeats and tables.has_time and not metadata["filter_seen"],
        num_neighbours=settings.num_neighbours if _has_neighbours(tables) else 0,
    )


def _has_neighbours(tables: FeatureTables) -> bool:
    """Not where order decides: weights between items know none. Nor where their matrix is too large."""
    return tables.is_time_split and tables.num_items <= MAX_DENSE_ITEMS


def _value_heads(
    tables: FeatureTables, samples: TrainingSamples, settings: ModelSettings
) -> ValueHeadsConfig | None:
    if not (tables.has_time and len(samples.cuts.prefix)):
        return None
    horizons, cuts = tables.horizons_days, samples.cuts.thinned(_MAX_PRIOR_QUERIES)
    log_spend = []
    for h in range(len(horizons)):
        paid = cuts.spend[:, h][cuts.observed[:, h] & (cuts.spend[:, h] > 0)]
        log_spend.append(float(np.log(paid).mean()) if len(paid) else 0.0)
    return ValueHeadsConfig(
        width=settings.width,
        num_heads=settings.num_heads,
        num_features=cuts.features.shape[1],
        horizons_days=tuple(horizons),
        bin_ends_days=bin_ends(horizons),
        log_spend=tuple(log_spend),
        has_value=tables.has_value,
        dropout=settings.value_dropout,
    )
