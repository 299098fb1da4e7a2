"""How ranks train together: DDP, and DeepSpeed's ZeRO on processors as well as on GPUs."""

from __future__ import annotations

import os
from typing import Any

import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy

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


def ddp() -> DDPStrategy:
    """Every rank holds the whole model."""
    return DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)


def zero(
    *,
    stage: int,
    offload_optimizer: bool = False,
    offload_parameters: bool = False,
    activation_checkpointing: bool = False,
) -> ZeroStrategy:
    """ZeRO stage 1 shards the optimizer's state over the ranks, 2 the gradients too, 3 the parameters too."""
    return ZeroStrategy(
        stage=stage,
        offload_optimizer=offload_optimizer,
        offload_parameters=offload_parameters,
        logging_batch_size_per_gpu=1,
    )
