"""A user model whose item tables are where the settings want them."""

from __future__ import annotations

import torch

from recsys.build import ModelSettings
from recsys.nn.user_model import ITEM_BIAS_STD, ITEM_STD, UserModel, UserModelConfig
from recsys.parallel.tables.optimizers import ROW_OPTIMIZERS, SGD
from recsys.parallel.tables.table import ShardedTable
from recsys.parallel.tables.torchrec import TorchRecTable


def over_ranks(model: UserModel) -> UserModel:
    """A trained model whose item tables lie in rows on the ranks, to be asked, not trained; a collective."""
    tables = {}
    for name, table in (("lookup", model.item_tower.lookup), ("item_bias", model.item_bias)):
        weight_ND = table.rows(0, model.config.item_tower.capacity + 1)
        tables[name] = ShardedTable(
            num_rows=len(weight_ND), width=weight_ND.shape[1], std=0.0, seed=0, optimizer=SGD(lr=0.0)
        )
        tables[name].start_from(weight_ND)
        tables[name].allocate(torch.device("cpu"))
    shared = UserModel(model.config, **tables)
    weights = model.state_dict()
    shared.load_state_dict({name: weights[name] for name in shared.state_dict()})
    return shared.eval()


def user_model(config: UserModelConfig, settings: ModelSettings, *, seed: int) -> UserModel:
    """`model.table=sharded`: id vectors and item biases are two tables over the ranks.

    `torchrec`: its kernels hold the vectors; the biases, one number a row, stay in a table of ours.
    """
    if settings.table == "replicated":
        return UserModel(config)
    optimizer = ROW_OPTIMIZERS[settings.table_optimizer](lr=settings.table_lr)
    num_rows = config.item_tower.capacity + 1
    return UserModel(
        config,
        lookup=(TorchRecTable if settings.table == "torchrec" else ShardedTable)(
            num_rows=num_rows, width=config.width, std=ITEM_STD, seed=seed, optimizer=optimizer
        ),
        item_bias=ShardedTable(num_rows=num_rows, width=1, std=ITEM_BIAS_STD, seed=seed, optimizer=optimizer),
    )
