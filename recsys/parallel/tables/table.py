"""A table whose rows are dealt over the ranks; its gradients are as sparse as its lookups.

Legend: N rows of the table, K asked indices, U distinct rows asked for, R rows others ask of this rank,
D width, V items given.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from recsys.parallel.tables.layout import RowLayout
from recsys.parallel.tables.optimizers import RowOptimizer, State
from recsys.schema import PAD, InputError

_CHUNK = 1 << 16  # rows that are drawn together


class ShardedTable:
    """An `nn.tables.ItemTable`. Every call is a collective: all ranks make the same number of them in the
    same order.

    Not an nn.Module, so that DDP and ZeRO do not see it: it is neither broadcast, cast nor partitioned. The
    strategy allocates it when the ranks are up (`parallel.tables.steps`), and steps it.
    """

    is_fused = False  # whether rows move within the backward pass

    def __init__(self, *, num_rows: int, width: int, std: float, seed: int, optimizer: RowOptimizer) -> None:
        """`num_rows` counts the padding, row 0. Vectors start normal with deviation `std`, the same for any
        number of ranks."""
        self.num_rows, self.width, self.std, self.seed = num_rows, width, std, seed
        self.optimizer = optimizer
        self._start_VD: Tensor | None = None
        self._weight_ND: Tensor | None = None
        self.state: State = {}

    @property
    def allocated(self) -> bool:
        return self._weight_ND is not None

    @property
    def weight_ND(self) -> Tensor:
        """The rows of this rank, in the order of the layout."""
        if self._weight_ND is None:
            raise InputError(
                "model.table=sharded needs ranks: set trainer.strategy to DDP or ZeRO (one device will do)"
            )
        return self._weight_ND

    def start_from(self, vectors_VD: Tensor) -> None:
        if vectors_VD.shape[1] != self.width or len(vectors_VD) > self.num_rows:
            raise InputError(
                f"{tuple(vectors_VD.shape)} vectors do not fit a table of {self.num_rows:,} x {self.width}"
            )
        self._start_VD = vectors_VD
        if self.allocated:
            self._fill()

    def allocate(self, device: torch.device, *, node_ranks: int | None = None) -> None:
        """Make the rows of this rank; a second call changes nothing. The process group must be up.

        node_ranks: how many ranks a node has; None: one node has all. Which rows a rank has is the same.
        """
        if self.allocated:
            return
        self.layout = RowLayout(num_rows=self.num_rows, world=dist.get_world_size(), rank=dist.get_rank())
        self.mesh: DeviceMesh = init_device_mesh(device.type, (self.layout.world,))
        self._weight_ND = torch.empty(self.layout.held, self.width, device=device).requires_grad_()
        self._draw()
        self._fill()
        self.state = self.optimizer.new_state(self._weight_ND.detach())

    @torch.no_grad()
    def _draw(self) -> None:
        """Chunks have generators of their own, so that any rank can draw any of them."""
        first, last = self.layout.first, self.layout.first + self.layout.held
        for chunk in range(first // _CHUNK, -(-last // _CHUNK)):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + chunk)
            begin = chunk * _CHUNK
            drawn = torch.randn(_CHUNK, self.width, generator=generator)
            low, high = max(first, begin), min(last, begin + _CHUNK)
            self.weight_ND[low - first : high - first] = drawn[low - begin : high - begin] * self.std
        if first == PAD < last:
            self.weight_ND[PAD] = 0

    @torch.no_grad()
    def _fill(self) -> None:
        """Copy what `start_from` gave into the rows of this rank, and let go of it."""
        if self._start_VD is None:
            return
        for low in range(0, self.layout.held, _CHUNK):
            row = torch.arange(low, min(low + _CHUNK, self.layout.held))
            index = self.layout.index(row + self.layout.first)
            given = index < len(self._start_VD)
            vectors = self._start_VD[index[given].to(self._start_VD.device)]
            self.weight_ND[row[given].to(self.weight_ND.device)] = vectors.to(self.weight_ND)
        self._start_VD = None

    def __call__(self, index: Tensor, /) -> Tensor:
        """(K, D) vectors of indices (K); those of padding are 0 and get no gradient."""
        index_K = index.to(self.weight_ND.device)
        row_U, place_K = self.layout.row(index_K).unique(return_inverse=True)  # sorted: grouped by owner
        asked = torch.bincount(row_U // self.layout.block, minlength=self.layout.world)
        asked_of_me = torch.empty_like(asked)
        dist.all_to_all_single(asked_of_me, asked)
        sent, received = asked.tolist(), asked_of_me.tolist()
        row_R = row_U.new_empty(sum(received))
        dist.all_to_all_single(row_R, row_U, received, sent)
        vector_RD = F.embedding(row_R - self.layout.first, self.weight_ND, sparse=True)
        vector_UD: Tensor = _Exchange.apply(vector_RD, received, sent)
        return vector_UD[place_K].masked_fill((index_K == PAD)[:, None], 0).to(index.device)

    @torch.no_grad()
    def rows(self, start: int, stop: int) -> Tensor:
        """(stop - start, D) on the first rank, (0, D) on the others; a collective."""
        stop = stop if self.layout.rank == 0 else start
        return self(torch.arange(start, stop, device=self.weight_ND.device)).cpu()

    @torch.no_grad()
    def step(self, *, max_norm: float | None = None, lr_factor: float = 1.0) -> None:
        """Update with the mean over ranks of the gradients since the last step, cut to `max_norm`, which
        holds for this table alone; a collective.
        """
        weight_ND, gradient = self.weight_ND.detach(), self.weight_ND.grad
        self.weight_ND.grad = None
        if gradient is None:
            row_U, gradient_UD = weight_ND.new_empty(0, dtype=torch.int64), weight_ND[:0]
        else:
            gradient = gradient.coalesce()
            row_U, gradient_UD = gradient.indices()[0], gradient.values() / self.layout.world
        if max_norm:
            square = gradient_UD.square().sum(dtype=torch.float64)
            dist.all_reduce(square)
            gradient_UD = gradient_UD * min(1.0, max_norm / (float(square.sqrt()) + 1e-6))
        self.optimizer.update(weight_ND, self.state, row_U, gradient_UD, lr=self.optimizer.lr * lr_factor)

    def state_dict(self) -> dict[str, Any]:
        """Views of the live tensors, as DTensors over the ranks: what is loaded into them is loaded."""
        return {
            "weight": self._over_ranks(self.weight_ND.detach()),
            **{f"optimizer.{name}": self._over_ranks(value) for name, value in self.state.items()},
        }

    def _over_ranks(self, mine: Tensor) -> Tensor:
        if not mine.ndim:
            return mine
        shape = torch.Size((self.num_rows, *mine.shape[1:]))
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(mine, self.mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)


class _Exchange(torch.autograd.Function):
    """Rows to those who asked for them; backward, their gradients to the owners."""

    @staticmethod
    def forward(ctx: Any, vector_RD: Tensor, sent: list[int], received: list[int]) -> Tensor:
        ctx.sent, ctx.received = sent, received
        return _all_to_all(vector_RD, sent=sent, received=received)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _all_to_all(gradients[0], sent=ctx.received, received=ctx.sent), None, None


def _all_to_all(vectors: Tensor, *, sent: list[int], received: list[int]) -> Tensor:
    got = vectors.new_empty(sum(received), *vectors.shape[1:])
    dist.all_to_all_single(got, vectors.contiguous(), received, sent)
    return got
