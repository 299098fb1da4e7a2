"""The weights in a checkpoint, read by one process whatever number of ranks wrote them."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import torch
from torch import Tensor

from recsys.parallel.checkpoints import MANIFEST, TABLES
from recsys.parallel.strategy import PARTS
from recsys.parallel.tables.checkpoint import whole_tables

_PREFIX = "model."  # of the user model within the module


def weights_of(checkpoint: Path) -> dict[str, Tensor]:
    """State of the user model on the CPU; sharded tables are whole, a row an item_index."""
    if checkpoint.is_file():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=False, mmap=True)
        weights, tables = saved["state_dict"], saved.get(TABLES)
    else:
        weights = _joined(checkpoint)
        tables = json.loads((checkpoint / MANIFEST).read_text())[TABLES]
    if tables is not None:
        weights |= whole_tables(checkpoint.parent / tables)
    return {
        name.removeprefix(_PREFIX): tensor for name, tensor in weights.items() if name.startswith(_PREFIX)
    }


def _joined(folder: Path) -> dict[str, Tensor]:
    """DeepSpeed's parts of any stage, in float32."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it finds
        joined: dict[str, Tensor] = get_fp32_state_dict_from_zero_checkpoint(str(folder), tag=PARTS)
    return joined
