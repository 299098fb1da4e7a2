"""How ranks train together: DDP, and DeepSpeed's ZeRO on processors as well as on GPUs."""

from __future__ import annotations

import os
from typing import Any

import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy

from recsys.parallel.tables import StepsTables

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read when deepspeed is imported


class ZeroStrategy(DeepSpeedStrategy):
    """DeepSpeed's ZeRO with two things mended: it runs on processors, and accumulated gradients have the
    scale of one big batch.
    """

    def setup_environment(self) -> None:
        if isinstance(self.accelerator, CPUAccelerator):
            # DeepSpeed asks devices for an index; the base class would insist on CUDA
            self.parallel_devices = [torch.device("cpu", i) for i in range(len(self.parallel_devices or []))]
            super(DeepSpeedStrategy, self).setup_environment()
        else:
            super().setup_environment()

    def backward(self, closure_loss: torch.Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Lightning has divided the loss by the accumulated batches; DeepSpeed would do so again."""
        return super().backward(closure_loss, optimizer, *args, **({"scale_wrt_gas": False} | kwargs))

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """In bf16 DeepSpeed casts the weights; autocast sees to numbers that are made on the way."""
        assert self.lightning_module is not None
        is_bf16 = str(self.lightning_module.trainer.precision).startswith("bf16")
        with torch.autocast(self.root_device.type, torch.bfloat16, enabled=is_bf16):
            return super().training_step(*args, **kwargs)


class DdpWithTables(StepsTables, DDPStrategy):
    """The dense part on every rank, sharded tables beside it."""


class ZeroWithTables(StepsTables, ZeroStrategy):
    """The dense part under ZeRO, sharded tables beside it."""


def ddp() -> DDPStrategy:
    """Every rank holds the whole model, sharded tables excepted."""
    return DdpWithTables(find_unused_parameters=True, broadcast_buffers=False)


def zero(
    *,
    stage: int,
    offload_optimizer: bool = False,
    offload_parameters: bool = False,
    activation_checkpointing: bool = False,
) -> ZeroStrategy:
    """ZeRO stage 1 shards the optimizer's state over the ranks, 2 the gradients too, 3 the parameters too."""
    return ZeroWithTables(
        stage=stage,
        offload_optimizer=offload_optimizer,
        offload_parameters=offload_parameters,
        logging_batch_size_per_gpu=1,
    )
