"""The same table behind TorchRec, whose fused kernels update rows within the backward pass.

Worth its installation on GPUs (docs/scaling.md); it is imported only where settings ask for it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from recsys.parallel.tables.layout import RowLayout
from recsys.parallel.tables.optimizers import SGD, RowWiseAdagrad, SparseAdam
from recsys.parallel.tables.table import ShardedTable
from recsys.schema import PAD, InputError

_NAME = "item"
_WIDTH_MULTIPLE = 4  # of FBGEMM's kernels


class TorchRecTable(ShardedTable):
    """A ShardedTable whose lookup, exchange and update are TorchRec's. Rows lie where those of a ShardedTable
    lie, so that each reads the checkpoints of the other.

    `step` has nothing left to do: accumulation and clipping come too late, and `StepsTables` refuses them.
    """

    is_fused = True

    def allocate(self, device: torch.device, *, node_ranks: int | None = None) -> None:
        if self.allocated:
            return
        self.layout = RowLayout(num_rows=self.num_rows, world=dist.get_world_size(), rank=dist.get_rank())
        self.mesh = init_device_mesh(device.type, (self.layout.world,))
        self._module, self._key_of = _sharded_module(self, device, node_ranks=node_ranks)
        shards = self._module.state_dict()[f"embeddings.{_NAME}.weight"].local_shards()
        self._weight_ND = shards[0].tensor if shards else torch.empty(0, self.width, device=device)
        self._draw()
        self._fill()
        self.state = self._optimizer_state()

    def _optimizer_state(self) -> dict[str, Tensor]:
        """The live sums, under the names of our own optimizer; moments of Adam stay TorchRec's."""
        if not isinstance(self.optimizer, RowWiseAdagrad):
            return {}
        held = self._module.fused_optimizer.state_dict()["state"][f"embeddings.{_NAME}.weight"]
        (sums,) = held.values()
        shards = sums.local_shards()
        return {"sum": shards[0].tensor.view(-1) if shards else self.weight_ND.new_zeros(0)}

    def __call__(self, index: Tensor, /) -> Tensor:
        index_K = index.to(self.weight_ND.device)
        asked_K = index_K if len(index_K) else index_K.new_full((1,), PAD)  # TorchRec must be asked something
        found: Tensor = self._module(self._key_of(self.layout.row(asked_K)))[_NAME].values()
        return found[: len(index_K)].masked_fill((index_K == PAD)[:, None], 0).to(index.device)

    def set_rate(self, lr_factor: float) -> None:
        """Of the update that the backward pass of the coming lookups makes."""
        for group in self._module.fused_optimizer.param_groups:
            group["lr"] = self.optimizer.lr * lr_factor
        self._module.fused_optimizer.step()  # hands the rate to the kernel; rows move in backward

    def step(self, *, max_norm: float | None = None, lr_factor: float = 1.0) -> None:
        assert not max_norm, "refused by StepsTables"


def _sharded_module(
    table: TorchRecTable, device: torch.device, *, node_ranks: int | None = None
) -> tuple[Any, Any]:
    """(TorchRec's module over the ranks, row numbers -> its input)."""
    try:
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from torchrec import EmbeddingCollection, EmbeddingConfig, KeyedJaggedTensor
        from torchrec.distributed.embedding import EmbeddingCollectionSharder
        from torchrec.distributed.shard import shard
        from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
        from torchrec.distributed.types import ShardingEnv
    except (ImportError, OSError) as error:
        raise InputError(
            f"model.table=torchrec needs TorchRec and FBGEMM built for torch {torch.__version__} ({error}); "
            "install them (docs/scaling.md) or take model.table=sharded"
        ) from error
    if table.width % _WIDTH_MULTIPLE:
        raise InputError(f"model.table=torchrec needs a model.width that {_WIDTH_MULTIPLE} divides")
    optimizer, own = {}, table.optimizer
    if isinstance(own, SGD):
        optimizer = {"optimizer": EmbOptimType.EXACT_SGD}
    elif isinstance(own, RowWiseAdagrad):
        optimizer = {"optimizer": EmbOptimType.EXACT_ROWWISE_ADAGRAD, "eps": own.eps}
    elif isinstance(own, SparseAdam):
        raise InputError("model.table=torchrec has no sparse Adam; set model.table_optimizer=rowwise_adagrad")
    sharder: Any = EmbeddingCollectionSharder(fused_params=optimizer | {"learning_rate": own.lr})
    collection = EmbeddingCollection(
        device=torch.device("meta"),
        tables=[
            EmbeddingConfig(
                name=_NAME,
                embedding_dim=table.width,
                num_embeddings=table.num_rows,
                feature_names=[_NAME],
            )
        ],
    )
    world = dist.get_world_size()
    plan = construct_module_sharding_plan(
        collection,
        {_NAME: row_wise(compute_kernel="fused")},  # the kernel it takes by itself damages memory
        sharder,
        local_size=node_ranks or world,  # the devices it places rows on are numbered within a node
        world_size=world,
        device_type=device.type,
    )
    group = dist.group.WORLD
    assert group is not None
    module = shard(collection, plan, ShardingEnv.from_process_group(group), device, sharder)

    def key_of(row_K: Tensor) -> Any:
        ones = torch.ones_like(row_K, dtype=torch.int32)
        return KeyedJaggedTensor(keys=[_NAME], values=row_K, lengths=ones)

    return module, key_of
