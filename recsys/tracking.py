"""The W&B logger: online where a key is there, offline otherwise."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from pytorch_lightning.loggers import WandbLogger


def wandb_logger(*, project: str, name: str, save_dir: str) -> WandbLogger:
    """WANDB_MODE, where set, decides; else a key in WANDB_API_KEY means online."""
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")
    logging.raiseExceptions = False  # W&B logs from threads: on a full disk each line would print its trace
    mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    return WandbLogger(
        project=project, name=name, save_dir=save_dir, offline=mode != "online", log_model=False
    )
