"""Room for more items: a bundle whose id table has more rows. Indices keep their meaning."""

from __future__ import annotations

import dataclasses

import torch

from recsys.bundle import Bundle
from recsys.nn.user_model import UserModel
from recsys.schema import InputError


def with_capacity(bundle: Bundle, capacity: int) -> Bundle:
    """The same weights and, where rows are by item, new rows as a new model has them.

    Raises InputError where that is no growth.
    """
    tower = bundle.model.config.item_tower
    if capacity <= tower.capacity:
        raise InputError(f"capacity={capacity} is no growth: the bundle has {tower.capacity}")
    config = dataclasses.replace(
        bundle.model.config, item_tower=dataclasses.replace(tower, capacity=capacity)
    )
    model, old = UserModel(config), bundle.model.state_dict()
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            if weight.ndim and len(weight) == capacity + 1:
                weight[: len(old[name])] = old[name]
            else:
                weight.copy_(old[name])
    return dataclasses.replace(bundle, model=model.eval())
