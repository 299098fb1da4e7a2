"""The next round starts where the last one stopped: weights of a bundle into a model for newer tables."""

from __future__ import annotations

import torch

from recsys.bundle import Bundle
from recsys.nn.user_model import UserModel
from recsys.schema import InputError


def warm_start(model: UserModel, bundle: Bundle) -> None:
    """Copy every weight; a table that has grown keeps its new rows. Indices are never renumbered, so row i of
    the old table is item i of the new one.

    Raises InputError where the architecture differs.
    """
    old, new = bundle.model.state_dict(), model.state_dict()
    for name, table in (("item_tower.lookup", model.item_tower.lookup), ("item_bias", model.item_bias)):
        if f"{name}.weight" not in new:  # sharded: it has no weight in the state
            table.start_from(old.pop(f"{name}.weight"))
    if old.keys() != new.keys():
        odd = sorted(old.keys() ^ new.keys())[0]
        raise InputError(
            f"warm_start: the bundle's model differs ({odd}); train with the same model settings"
        )
    tables = {
        f"{name}.weight" for name, part in model.named_modules() if isinstance(part, torch.nn.Embedding)
    }
    with torch.no_grad():
        for name, weight in old.items():
            if name.startswith("neighbours."):  # found anew when the rest is trained
                continue
            target = new[name]
            if name in tables and weight.shape[1:] == target.shape[1:]:
                rows = min(len(weight), len(target))
                target[:rows] = weight[:rows]
            elif weight.shape == target.shape:
                target.copy_(weight)
            else:
                raise InputError(
                    f"warm_start: {name} is {tuple(weight.shape)} in the bundle and {tuple(target.shape)} "
                    "here; train with the same model settings"
                )
    model.load_state_dict(new)
