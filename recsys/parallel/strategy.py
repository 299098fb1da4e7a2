"""How ranks train together: DDP, and DeepSpeed's ZeRO on processors as well as on GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy

from recsys.nn.user_model import UserModel
from recsys.parallel.checkpoints import RUN, TABLES, ranks_of, seal
from recsys.parallel.tables import StepsTables
from recsys.parallel.tables.table import ShardedTable

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read when deepspeed is imported

PARTS = "checkpoint"  # where Lightning has DeepSpeed put a checkpoint's parts


class ZeroStrategy(DeepSpeedStrategy):
    """DeepSpeed's ZeRO with four things mended: it runs on processors; accumulated gradients have the scale
    of one big batch; a checkpoint is whole or absent; and another number of ranks can go on from it.
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

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Every rank writes its part beside; the first seals them and renames."""
        target = Path(self.broadcast(str(filepath)))
        building = target.with_name(f".building-{target.name}")
        super().save_checkpoint(checkpoint, str(building), storage_options)
        self.barrier()
        if self.is_global_zero:
            seal(
                building,
                num_ranks=self.world_size,
                tables=checkpoint.get(TABLES),
                run=checkpoint.get(RUN),
            )
            replaced = target.with_name(f".replaced-{target.name}")
            if target.exists():
                os.replace(target, replaced)
            os.replace(building, target)
            shutil.rmtree(replaced, ignore_errors=True)
        self.barrier()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Parts of another number of ranks are made into DeepSpeed's universal checkpoint first."""
        path = Path(checkpoint_path)
        if ranks_of(path) == self.world_size:
            return super().load_checkpoint(path, weights_only)
        universal = path.with_name(f".universal-{path.name}")
        if self.is_global_zero:
            _make_universal(path, universal)
        self.barrier()
        self.deepspeed_engine._config.load_universal_checkpoint = True
        groups = self.deepspeed_engine.optimizer.param_groups
        settings = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        try:
            state = super().load_checkpoint(universal, weights_only)
            _give_back(settings, self.deepspeed_engine.optimizer)
            return state
        finally:
            self.barrier()
            if self.is_global_zero:
                shutil.rmtree(universal, ignore_errors=True)


def _give_back(settings: list[dict[str, Any]], optimizer: Any) -> None:
    """Stage 3 gives every group the settings of the first and one count of steps to share, which each would
    raise: here each has its own again, with the learning rate where the schedule had it.
    """
    for own, group in zip(settings, optimizer.param_groups, strict=True):
        reached = group["lr"] * own.get("initial_lr", 1.0) / group.get("initial_lr", 1.0)
        group.update(own | {"lr": reached})
    for state in getattr(optimizer, "optimizer", optimizer).state.values():
        if torch.is_tensor(state.get("step")):
            state["step"] = state["step"].clone()


def _make_universal(source: Path, target: Path) -> None:
    """In a process of its own, since the program sets its own signal handlers and parses arguments."""
    shutil.rmtree(target, ignore_errors=True)
    command = [
        *(sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"),
        *("--input_folder", str(source / PARTS), "--output_folder", str(target / PARTS)),
        *("--num_extract_workers", "1", "--num_merge_workers", "1"),
    ]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "PMI"))}
    done = subprocess.run(command, capture_output=True, text=True, env=inherited, check=False)
    if done.returncode:
        raise RuntimeError(
            f"checkpoint {source} cannot be converted for another number of ranks:\n{done.stderr[-2000:]}"
        )


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
) -> ZeroStrategy:
    """ZeRO stage 1 shards the optimizer's state over the ranks, 2 the gradients too, 3 the parameters too."""
    return ZeroWithTables(
        stage=stage,
        offload_optimizer=offload_optimizer,
        offload_parameters=offload_parameters,
        logging_batch_size_per_gpu=1,
    )


def kind_of(strategy: Any) -> str:
    """Its name under conf/trainer/: what its checkpoints can be gone on with."""
    if isinstance(strategy, DeepSpeedStrategy):
        assert isinstance(strategy.config, dict)
        return f"zero{strategy.config['zero_optimization']['stage']}"
    return "ddp" if isinstance(strategy, DDPStrategy) else "cpu"


def whole_model(strategy: Any, model: UserModel) -> UserModel:
    """The trained model on the CPU, gathered where ZeRO-3 has split it; sharded tables stay where they are.
    Every rank must call it.
    """
    weights = whole_weights(strategy, model)
    is_sharded = isinstance(model.item_tower.lookup, ShardedTable)
    tables = {"lookup": model.item_tower.lookup, "item_bias": model.item_bias} if is_sharded else {}
    whole = UserModel(model.config, **tables)
    whole.load_state_dict(weights)
    return whole


def whole_weights(strategy: Any, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The model's state on the CPU, gathered where ZeRO-3 has split it. Every rank must call it."""
    if isinstance(strategy, ZeroStrategy) and strategy.zero_stage_3:
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(model.parameters())):
            return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
