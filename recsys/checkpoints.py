"""Checkpoints that survive a full disk: the last one stays until the next one is complete."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import TorchCheckpointIO

from recsys.disk import whole_file


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning writes over the checkpoint that is there; this writes beside it and renames."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        content = io.BytesIO()  # torch's own files have errors of their own where the disk is full
        torch.save(checkpoint, content)
        with whole_file(Path(path)) as building:
            building.write_bytes(content.getbuffer())
