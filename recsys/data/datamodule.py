"""The LightningDataModule: training samples on the elastic plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl

from recsys.data.plan import ElasticLoader, PlanConfig
from recsys.data.sample_config import SampleConfig
from recsys.data.samples import TrainingSamples
from recsys.settings import check_range


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """How tables become batches; conf/data/*.yaml. `num_workers` processes read ahead, 0: none."""

    samples: SampleConfig = field(default_factory=SampleConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    num_workers: int = 0

    def __post_init__(self) -> None:
        check_range("data.num_workers", self.num_workers, least=0)


class UserDataModule(pl.LightningDataModule):
    """Deals the plan's global batches to whatever ranks the trainer has; its state is in every checkpoint."""

    def __init__(self, *, samples: TrainingSamples, plan: PlanConfig, num_workers: int = 0) -> None:
        super().__init__()
        self.samples, self.plan, self.num_workers = samples, plan, num_workers
        self.loader: ElasticLoader | None = None

    def train_dataloader(self) -> Any:
        trainer = self.trainer
        assert trainer is not None
        on_gpu = trainer.strategy.root_device.type == "cuda"
        self.loader = ElasticLoader(
            samples=self.samples,
            config=self.plan,
            rank=trainer.global_rank,
            world=trainer.world_size,
            accumulate=trainer.accumulate_grad_batches,
            num_workers=self.num_workers,
            packed=on_gpu and "16" in str(trainer.precision),
            pinned=on_gpu,
        )
        return self.loader
