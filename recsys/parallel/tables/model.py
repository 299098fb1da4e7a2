"""A user model whose item tables are where the settings want them."""

from __future__ import annotations

from recsys.build import ModelSettings
from recsys.nn.user_model import ITEM_BIAS_STD, ITEM_STD, UserModel, UserModelConfig
from recsys.parallel.tables.optimizers import ROW_OPTIMIZERS
from recsys.parallel.tables.table import ShardedTable
from recsys.parallel.tables.torchrec import TorchRecTable


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
