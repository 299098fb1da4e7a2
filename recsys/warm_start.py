"""The next round starts where the last one stopped: weights of a bundle or of a checkpoint into a model for
newer tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recsys.nn.user_model import UserModel
from recsys.schema import InputError

_FOUND_ANEW = "neighbours."  # when the rest is trained


@dataclass(frozen=True)
class Start:
    """What a run starts from: state of a UserModel, tables whole; the rest as in a `Bundle`."""

    weights: dict[str, Tensor]
    scaler: dict[str, list[float]]
    trained_on: dict[str, Any]
    vocabularies: dict[str, dict[str, Any]]


def warm_start(model: UserModel, weights: dict[str, Tensor]) -> None:
    """Copy every weight; a table that has grown keeps its new rows. Indices are never renumbered, so row i of
    the old table is item i of the new one.

    Raises InputError where the architecture differs.
    """
    old, new = dict(weights), model.state_dict()
    for name, table in (("item_tower.lookup", model.item_tower.lookup), ("item_bias", model.item_bias)):
        if f"{name}.weight" not in new:  # sharded: it has no weight in the state
            table.start_from(old.pop(f"{name}.weight"))
    old = {name: weight for name, weight in old.items() if not name.startswith(_FOUND_ANEW)}
    differing = {name for name in old.keys() ^ new.keys() if not name.startswith(_FOUND_ANEW)}
    if differing:
        raise InputError(
            f"warm_start: the model there differs ({min(differing)}); train with the same model settings"
        )
    tables = {
        f"{name}.weight" for name, part in model.named_modules() if isinstance(part, torch.nn.Embedding)
    }
    with torch.no_grad():
        for name, weight in old.items():
            target = new[name]
            if name in tables and weight.shape[1:] == target.shape[1:]:
                rows = min(len(weight), len(target))
                target[:rows] = weight[:rows]
            elif weight.shape == target.shape:
                target.copy_(weight)
            else:
                raise InputError(
                    f"warm_start: {name} is {tuple(weight.shape)} there and {tuple(target.shape)} "
                    "here; train with the same model settings, on tables that tell as much"
                )
    model.load_state_dict(new)
