"""`python -m recsys reshard`: a bundle with room for more items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys.entry import hydra_command
from recsys.schema import InputError


@hydra_command("reshard")
def main(cfg: Any) -> None:
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
