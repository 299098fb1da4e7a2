"""Every row lies on one rank, and neighbours in index lie apart."""

from __future__ import annotations

import pytest
import torch

from recsys.parallel.tables.layout import RowLayout


@pytest.mark.parametrize("num_rows", [1, 2, 7, 25, 1000])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_blocks_cover_the_rows_once(num_rows: int, world: int) -> None:
    blocks = [RowLayout(num_rows=num_rows, world=world, rank=rank) for rank in range(world)]
    rows = [row for block in blocks for row in range(block.first, block.first + block.held)]
    assert rows == list(range(num_rows))
    assert max(block.held for block in blocks) == -(-num_rows // world)


@pytest.mark.parametrize("num_rows", [1, 2, 7, 25, 1000, 10_000_001])
def test_index_and_row_are_one_to_one(num_rows: int) -> None:
    layout, index = RowLayout(num_rows=num_rows, world=1, rank=0), torch.arange(min(num_rows, 5000))
    row = layout.row(index)
    assert len(row.unique()) == len(index)
    assert torch.equal(layout.index(row), index)
    assert row[0] == 0
    assert row.max() < num_rows


def test_the_first_items_are_spread_over_the_ranks() -> None:
    layout = RowLayout(num_rows=1_000_001, world=8, rank=0)
    held = torch.bincount(layout.row(torch.arange(1, 8001)) // layout.block, minlength=8)
    assert held.min() > 900
    assert held.max() < 1100
