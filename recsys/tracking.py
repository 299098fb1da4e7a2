"""What a run tells: the W&B logger, online where a key is there and offline otherwise; a quiet Lightning."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path

from pytorch_lightning.loggers import WandbLogger

# What Lightning tells every user in every run. Warnings, ranks and devices stay.
_OF_NO_USE = ("💡 Tip", "GPU available: False", "TPU available", "Loading `train_dataloader`")


def wandb_logger(*, project: str, name: str, save_dir: str) -> WandbLogger:
    """WANDB_MODE, where set, decides; else a key in WANDB_API_KEY means online."""
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")
    logging.raiseExceptions = False  # W&B logs from threads: on a full disk each line would print its trace
    mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    is_offline = mode in ("offline", "dryrun")  # `disabled` is for W&B itself to read
    logger = WandbLogger(project=project, name=name, save_dir=save_dir, offline=is_offline, log_model=False)
    logger._wandb_init.pop("anonymous", None)  # Lightning always hands it over, W&B always warns of it
    return logger


def quiet_lightning() -> None:
    """Leave out what says nothing about this run; call it before the trainer is made."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_is_of_use)
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")


def _is_of_use(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_OF_NO_USE)
