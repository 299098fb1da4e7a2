"""The LightningDataModule: training samples on the elastic plan."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from recsys.data.plan import ElasticLoader, PlanConfig
from recsys.data.samples import TrainingSamples


class UserDataModule(pl.LightningDataModule):
    """Deals the plan's global batches to whatever ranks the trainer has; its state is in every checkpoint."""

    def __init__(self, *, samples: TrainingSamples, plan: PlanConfig, num_workers: int = 0) -> None:
        super().__init__()
        self.samples, self.plan, self.num_workers = samples, plan, num_workers
        self.loader: ElasticLoader | None = None

    def train_dataloader(self) -> Any:
        trainer = self.trainer
        assert trainer is not None
        self.loader = ElasticLoader(
            samples=self.samples,
            config=self.plan,
            rank=trainer.global_rank,
            world=trainer.world_size,
            accumulate=trainer.accumulate_grad_batches,
            num_workers=self.num_workers,
        )
        return self.loader
