"""A model small enough to look into, over six items (row 0 is padding)."""

from __future__ import annotations

from typing import Any

import torch

from recsys.batch import Catalogue, Histories
from recsys.data.cut_features import NUM_CUT_FEATURES
from recsys.nn.item_tower import ItemTowerConfig
from recsys.nn.user_model import UserModel, UserModelConfig
from recsys.nn.value_heads import ValueHeadsConfig

NUM_FEATURES = NUM_CUT_FEATURES
DAY = 86_400


def catalogue(*, num_items: int = 6) -> Catalogue:
    """Items differ in one field, one number and two words; the last one was not seen in training."""
    index_V = torch.arange(num_items + 1)
    return Catalogue(
        item_V=index_V,
        categorical_VF=torch.where(index_V > 0, 1 + index_V % 3, 0)[:, None],
        numeric_VN=(index_V.float() / 3 - 1)[:, None],
        tokens_VT=torch.stack([index_V, torch.where(index_V > 3, index_V - 3, 0)], 1),
        in_training_V=(index_V > 0) & (index_V < num_items),
        popularity_TVW=(index_V[:, None] * torch.tensor([0.1, 0.2, 0.3, 0.0]))[None],
    )


def part_of(whole: Catalogue, row_V: torch.Tensor) -> Catalogue:
    """The catalogue of these rows only."""
    rows = {name: column[row_V] for name, column in whole._asdict().items() if name != "popularity_TVW"}
    return Catalogue(**rows, popularity_TVW=whole.popularity_TVW[:, row_V])


def small_model(*, seed: int = 0, capacity: int = 8, **changes: Any) -> UserModel:
    """Random weights, those that start at zero as well; evaluation mode; horizons of 7 and 30 days."""
    torch.manual_seed(seed)
    heads = ValueHeadsConfig(
        width=8,
        num_heads=2,
        num_features=NUM_FEATURES,
        horizons_days=(7, 30),
        bin_ends_days=(1, 7, 30),
        log_spend=(1.0, 2.0),
    )
    tower = ItemTowerConfig(capacity=capacity, field_sizes=(4,), num_numeric=1, num_tokens=8, width=8)
    settings: dict[str, Any] = {
        "item_tower": tower,
        "value_heads": heads,
        "num_event_types": 3,
        "profile_sizes": (2,),
        "width": 8,
        "score_width": 8,
        "num_heads": 2,
        "max_length": 16,
    }
    model = UserModel(UserModelConfig(**(settings | changes))).eval()
    zeroed = [model.recall.query.weight, *([model.value_heads.out.weight] if model.value_heads else [])]
    for weight in zeroed:
        torch.nn.init.normal_(weight, std=0.3)
    return model


def histories() -> Histories:
    """Two users of six and four events."""
    return Histories(
        item_BL=torch.tensor([[1, 2, 1, 3, 6, 2], [4, 4, 5, 1, 0, 0]]),
        event_type_BL=torch.tensor([[1, 1, 2, 1, 1, 3], [1, 3, 1, 1, 0, 0]]),
        timestamp_BL=torch.tensor([[0, 1, 3, 3, 9, 20], [5, 6, 7, 30, 30, 30]]) * DAY,
        value_BL=torch.tensor([[5.0, 2, -5, 8, 1, 0], [3, 0, 4, 9, 0, 0]]),
        length_B=torch.tensor([6, 4]),
        profile_BF=torch.tensor([[1], [2]]),
    )
