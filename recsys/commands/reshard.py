"""`python -m recsys reshard`: a bundle, or a checkpoint's sharded tables, with room for more items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys.entry import hydra_command
from recsys.schema import InputError


@hydra_command("reshard")
def main(cfg: Any) -> None:
    if (cfg.bundle is None) == (cfg.checkpoint is None):
        raise InputError("name what is to grow: bundle=NAME or checkpoint=PATH")
    if cfg.bundle is not None:
        _grow_bundle(cfg)
    else:
        _grow_checkpoint(cfg)


def _grow_bundle(cfg: Any) -> None:
    import torch

    from recsys.bundle import load_bundle, save_bundle
    from recsys.growth import with_capacity

    models_dir = Path(cfg.models_dir) / cfg.dataset.name
    target = models_dir / (cfg.name or f"{cfg.bundle}-{cfg.capacity}")
    if target.exists():
        raise InputError(f"{target} is there already; give the grown bundle another name with name=NAME")
    torch.manual_seed(cfg.seed)
    save_bundle(with_capacity(load_bundle(models_dir / cfg.bundle), cfg.capacity), target)
    print(f"{target}: room for {cfg.capacity:,} items")


def _grow_checkpoint(cfg: Any) -> None:
    import torch

    from recsys.parallel.tables.growth import grow_tables
    from recsys.parallel.tables.steps import tables_folder

    folder = tables_folder(Path(cfg.checkpoint))
    torch.manual_seed(cfg.seed)
    grow_tables(folder, cfg.capacity)
    print(f"{cfg.checkpoint}: tables with room for {cfg.capacity:,} items")
