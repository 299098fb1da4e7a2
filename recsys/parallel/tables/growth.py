"""A checkpoint's sharded tables with room for more items, by one process alone.

Legend: N rows before, M rows after, D width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

from recsys.disk import whole_folder
from recsys.nn.user_model import ITEM_BIAS_STD, ITEM_STD
from recsys.parallel.checkpoints import seal
from recsys.parallel.tables.layout import RowLayout
from recsys.schema import InputError

_CHUNK = 1 << 20
_STD = {"lookup": ITEM_STD, "item_bias": ITEM_BIAS_STD}  # of vectors of items that are not there yet


def grow_tables(folder: Path, capacity: int) -> None:
    """Replace a folder of `save_tables` by one whose tables hold `capacity` items and the padding.

    One table or state is held twice at a time. Raises InputError where that is no growth.
    """
    saved = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
    grown: dict[str, Any] = {}
    for name, entry in saved.items():
        before = torch.empty(entry.size)  # type: ignore[union-attr]
        dcp.load({name: before}, checkpoint_id=folder, no_dist=True)
        if before.ndim and len(before) > capacity:
            raise InputError(
                f"capacity={capacity} is no growth: {name} in {folder} holds {len(before) - 1} items"
            )
        grown[name] = before if not before.ndim else _grown(name, before, num_rows=capacity + 1)
    with whole_folder(folder) as building:
        dcp.save(grown, checkpoint_id=building, no_dist=True)
        seal(building, num_ranks=1)


def _grown(name: str, before_ND: Tensor, *, num_rows: int) -> Tensor:
    """Optimizer state of new items is 0. Every row moves: its number depends on how many there are."""
    table, what = name.rsplit(".weight", 1)[0].split(".")[-1], name.rsplit(".", 1)[1]
    after_MD = before_ND.new_zeros(num_rows, *before_ND.shape[1:])
    if what == "weight" and _STD[table]:
        after_MD.normal_(std=_STD[table])
    old = RowLayout(num_rows=len(before_ND), world=1, rank=0)
    new = RowLayout(num_rows=num_rows, world=1, rank=0)
    for start in range(0, old.num_rows, _CHUNK):
        index = torch.arange(start, min(start + _CHUNK, old.num_rows))
        after_MD[new.row(index)] = before_ND[old.row(index)]
    return after_MD
