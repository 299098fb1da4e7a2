"""How ranks train together: DDP, and DeepSpeed's ZeRO on processors as well as on GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.plugins.precision import DeepSpeedPrecision
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy

from recsys.nn.user_model import UserModel
from recsys.parallel.checkpoints import RUN, TABLES, ranks_of, seal
from recsys.parallel.tables import StepsTables
from recsys.parallel.tables.table import ShardedTable
from recsys.schema import InputError

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read when deepspeed is imported

PARTS = "checkpoint"  # where Lightning has DeepSpeed put a checkpoint's parts


class ZeroPrecision(DeepSpeedPrecision):
    """In bf16 DeepSpeed casts the parameters, and Lightning would cast batches and buffers too: money, days
    and popularity have more digits than bfloat16 keeps. Here they stay, and autocast sees to the rest.
    """

    def __init__(self, precision: Any, *, device_type: str) -> None:
        super().__init__(precision)
        self.device_type = device_type

    def convert_module(self, module: torch.nn.Module) -> torch.nn.Module:
        return module

    def convert_input(self, data: Any) -> Any:
        return data

    @contextmanager
    def forward_context(self) -> Iterator[None]:  # type: ignore[override]
        is_mixed = self._desired_dtype != torch.float32
        with torch.autocast(self.device_type, self._desired_dtype if is_mixed else None, enabled=is_mixed):
            yield


class ZeroStrategy(DeepSpeedStrategy):
    """DeepSpeed's ZeRO with five things mended: it runs on processors; bf16 is for parameters and products
    alone; accumulated gradients have the scale of one big batch; a checkpoint is whole or absent; and another
    number of ranks can go on from it.
    """

    def setup_environment(self) -> None:
        self._check_trainer()
        if isinstance(self.accelerator, CPUAccelerator):
            # DeepSpeed asks devices for an index; the base class would insist on CUDA
            self.parallel_devices = [torch.device("cpu", i) for i in range(len(self.parallel_devices or []))]
            _leave_out_shared_memory()
            super(DeepSpeedStrategy, self).setup_environment()
        else:
            super().setup_environment()
        precision = self.precision_plugin.precision
        self.precision_plugin = ZeroPrecision(precision, device_type=self.root_device.type)

    def _check_trainer(self) -> None:
        """Of its settings those that DeepSpeed refuses when training is about to begin."""
        assert self.lightning_module is not None
        trainer = self.lightning_module.trainer
        if trainer.gradient_clip_algorithm == "value":
            raise InputError("DeepSpeed clips by norm; set trainer.gradient_clip_algorithm=norm")
        if isinstance(self.accelerator, CPUAccelerator) and trainer.precision.startswith("16"):
            raise InputError(
                f"trainer.precision={trainer.precision} needs a GPU under DeepSpeed; here take 32-true"
            )

    def backward(self, closure_loss: torch.Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Lightning has divided the loss by the accumulated batches; DeepSpeed would do so again."""
        return super().backward(closure_loss, optimizer, *args, **({"scale_wrt_gas": False} | kwargs))

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


def _leave_out_shared_memory() -> None:
    """Its all-reduce is for inference. DeepSpeed would compile it where it starts, under a lock file that a
    process killed meanwhile leaves for good: all later runs of the machine would wait for it.
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


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
    """ZeRO stage 1 shards the optimizer's state over the ranks, 2 the gradients too, 3 the parameters too.

    Raises InputError for another stage, and where parameters are to be offloaded that every rank holds.
    """
    if stage not in (1, 2, 3):
        raise InputError(
            f"trainer.strategy.stage={stage} is none of ZeRO's; choose trainer=zero1, zero2 or zero3"
        )
    if offload_parameters and stage < 3:
        raise InputError(
            f"trainer.strategy.offload_parameters is for trainer=zero3: under zero{stage} every rank works "
            "with whole parameters; take zero3, or offload_optimizer alone"
        )
    strategy = ZeroWithTables(
        stage=stage,
        offload_optimizer=offload_optimizer,
        offload_parameters=offload_parameters,
        logging_batch_size_per_gpu=1,
    )
    assert isinstance(strategy.config, dict)
    # torch's fused AdamW steps on processors as it is; DeepSpeed's own has to be compiled on every node first
    strategy.config["zero_force_ds_cpu_optimizer"] = False
    return strategy


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
    """The model's state on the CPU. Under ZeRO these are the float32 weights that the optimizer steps, put
    together from all ranks: the model's own may be rounded, or a part. Every rank must call it.
    """
    split: dict[str, torch.nn.Parameter] = {}
    if isinstance(strategy, ZeroStrategy):
        model.to(strategy.root_device)  # where ranks exchange tensors; training leaves it on the CPU
        split = dict(model.named_parameters())
    weights = {}
    for name, tensor in model.state_dict().items():
        whole = _stepped(split[name]) if name in split else tensor.detach()
        weights[name] = whole.cpu().clone()
    return weights


def _stepped(parameter: torch.nn.Parameter) -> torch.Tensor:
    """The float32 weight behind a parameter under ZeRO; a collective."""
    from deepspeed.utils import safe_get_full_fp32_param

    whole: torch.Tensor = safe_get_full_fp32_param(parameter)
    return whole
