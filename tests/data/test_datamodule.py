"""The data module: what it takes from the trainer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from recsys.data.datamodule import UserDataModule
from recsys.data.plan import PlanConfig
from recsys.data.sample_config import SampleConfig
from recsys.data.samples import TrainingSamples
from tests.data.shop import many_users


@pytest.mark.parametrize(
    ("device", "precision", "packed"),
    [
        ("cuda", "bf16-mixed", True),
        ("cuda", "16-mixed", True),
        ("cuda", "32-true", False),
        ("cpu", "bf16-mixed", False),
    ],
)
def test_rows_are_packed_on_gpus_in_half_precision(device: str, precision: str, packed: bool) -> None:
    samples = TrainingSamples(
        tables=many_users(num_users=30),
        fit_until="validation",
        config=SampleConfig(max_length=6),  # type: ignore[arg-type]
    )
    module = UserDataModule(samples=samples, plan=PlanConfig(tokens=48))
    strategy = SimpleNamespace(root_device=torch.device(device))
    trainer: Any = SimpleNamespace(
        strategy=strategy, precision=precision, global_rank=0, world_size=1, accumulate_grad_batches=1
    )
    module.trainer = trainer
    batch = next(iter(module.train_dataloader()))
    packing = batch.histories.packing
    assert (packing is not None) == packed
    if packing is not None:
        length_B = batch.histories.length_B
        assert packing.start_B1.diff().tolist() == (length_B + 1).tolist()
        assert packing.longest == batch.histories.item_BL.shape[1] + 1
