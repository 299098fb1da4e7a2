"""Where the rows of a sharded table lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import count

from torch import Tensor

_GOLDEN = 0.6180339887498949  # neighbouring indices end up far apart, whatever the number of ranks


@dataclass(frozen=True, kw_only=True)
class RowLayout:
    """Row numbers 0 to num_rows in contiguous blocks, one a rank, as DTensor's Shard(0) has them.

    item_index -> row number is a fixed bijection (multiplication modulo num_rows): items of one time are
    popular together, and their indices are neighbours. Index 0 stays row 0.
    """

    num_rows: int
    world: int
    rank: int

    @cached_property
    def block(self) -> int:
        return -(-self.num_rows // self.world)

    @property
    def first(self) -> int:
        """The first row of this rank."""
        return min(self.rank * self.block, self.num_rows)

    @property
    def held(self) -> int:
        """Rows of this rank; ranks at the end may hold fewer, or none."""
        return min(self.first + self.block, self.num_rows) - self.first

    @cached_property
    def _multiplier(self) -> int:
        return next(a for a in count(int(self.num_rows * _GOLDEN)) if math.gcd(a, self.num_rows) == 1)

    @cached_property
    def _inverse(self) -> int:
        return pow(self._multiplier, -1, self.num_rows)

    def row(self, index: Tensor) -> Tensor:
        """int64 item_index -> row number."""
        return index * self._multiplier % self.num_rows

    def index(self, row: Tensor) -> Tensor:
        """int64 row number -> item_index."""
        return row * self._inverse % self.num_rows
