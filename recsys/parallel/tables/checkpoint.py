"""Sharded tables on disk: torch's distributed checkpoints, read on any number of ranks, each its rows.

Legend: N rows, D width.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from recsys.parallel.tables.layout import RowLayout
from recsys.parallel.tables.table import ShardedTable
from recsys.schema import InputError


def save_tables(tables: dict[str, ShardedTable], folder: Path) -> None:
    """Rows and optimizer state of every table; a collective. Raises OSError that names the folder."""
    try:
        dcp.save(_state(tables), checkpoint_id=folder)
    except CheckpointException as error:
        for refused, _ in error.failures.values():
            if isinstance(refused, OSError) and refused.errno is not None:
                raise OSError(refused.errno, os.strerror(refused.errno), str(folder)) from error
        raise


def load_tables(tables: dict[str, ShardedTable], folder: Path) -> None:
    """Into the live rows, nothing is held twice; a collective. InputError where the folder does not fit."""
    state = _state(tables)
    try:
        found = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
    except (OSError, EOFError) as error:
        raise InputError(
            f"{folder} holds no tables ({error}); it belongs to its checkpoint, copy both"
        ) from error
    for name, tensor in state.items():
        saved = getattr(found.get(name), "size", None)
        if saved is None:
            raise InputError(f"{folder} has no {name}; go on with the table settings that it was saved with")
        if saved != tensor.shape:
            raise InputError(
                f"{name} has {saved[0]:,} rows in {folder} and {tensor.shape[0]:,} here; "
                "take the tables it was trained on, or begin a new run by warm_start=CHECKPOINT"
            )
    dcp.load(state, checkpoint_id=folder)


def whole_tables(folder: Path) -> dict[str, Tensor]:
    """(num_rows, D) of every table, a row an item_index, on the CPU, read by one process for itself."""
    found = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
    state: dict[str, Any] = {
        name: torch.empty(entry.size)  # type: ignore[union-attr]
        for name, entry in found.items()
        if name.endswith(".weight")
    }
    dcp.load(state, checkpoint_id=folder, no_dist=True)
    return {name: _by_index(rows_ND) for name, rows_ND in state.items()}


def _by_index(rows_ND: Tensor) -> Tensor:
    layout = RowLayout(num_rows=len(rows_ND), world=1, rank=0)
    return rows_ND[layout.row(torch.arange(layout.num_rows))]


def _state(tables: dict[str, ShardedTable]) -> dict[str, Any]:
    return {
        f"{name}.{part}": tensor
        for name, table in tables.items()
        for part, tensor in table.state_dict().items()
    }
