"""`python -m recsys reshard`: a bundle with room for more items."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.entry import hydra_command
from recsys.schema import InputError
from recsys.settings import check_range, read_own


@dataclass(frozen=True, kw_only=True)
class ReshardSettings:
    """The numbers of conf/reshard.yaml."""

    capacity: int
    seed: int

    def __post_init__(self) -> None:
        check_range("capacity", self.capacity, least=1)
        check_range("seed", self.seed, least=0)


@hydra_command("reshard")
def main(cfg: Any) -> None:
    import torch
    from omegaconf import OmegaConf

    from recsys.bundle import load_bundle, save_bundle
    from recsys.growth import with_capacity

    own = read_own(ReshardSettings, OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))  # type: ignore[arg-type]
    models_dir = Path(cfg.models_dir) / cfg.dataset.name
    target = models_dir / (cfg.name or f"{cfg.bundle}-{own.capacity}")
    if target.exists():
        raise InputError(f"{target} is there already; give the grown bundle another name with name=NAME")
    torch.manual_seed(own.seed)
    save_bundle(with_capacity(load_bundle(models_dir / cfg.bundle), own.capacity), target)
    print(f"{target}: room for {own.capacity:,} items")
