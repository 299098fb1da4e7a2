"""A model whose item tables are dealt over the ranks, from one whose tables are whole."""

from __future__ import annotations

from typing import Any

from recsys.nn.user_model import UserModel
from recsys.parallel.tables import ShardedTable
from recsys.parallel.tables.optimizers import ROW_OPTIMIZERS


def with_sharded_tables(
    plain: UserModel, *, optimizer: str, lr: float, lookup: type[ShardedTable] = ShardedTable
) -> UserModel:
    """The same model, its item tables over the ranks."""

    def dealt(table: Any, kind: type[ShardedTable] = ShardedTable) -> ShardedTable:
        num_rows, width = table.weight.shape
        made = kind(
            num_rows=num_rows, width=width, std=0.1, seed=0, optimizer=ROW_OPTIMIZERS[optimizer](lr=lr)
        )
        made.start_from(table.weight.detach())
        return made

    model = UserModel(
        plain.config,
        lookup=dealt(plain.item_tower.lookup, lookup),
        item_bias=dealt(plain.item_bias),
    )
    kept = model.state_dict().keys()
    model.load_state_dict({name: weight for name, weight in plain.state_dict().items() if name in kept})
    return model.eval()
