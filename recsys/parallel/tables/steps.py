"""What a strategy does for the sharded tables of the module it trains."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch.nn as nn
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy

from recsys.parallel.checkpoints import TABLES, seal, tables_home
from recsys.parallel.tables.checkpoint import load_tables, save_tables
from recsys.parallel.tables.table import ShardedTable
from recsys.parallel.tables.torchrec import TorchRecTable
from recsys.schema import InputError


def tables_of(module: nn.Module) -> dict[str, ShardedTable]:
    """Sharded tables by the name their weight would have; they are plain attributes of modules."""
    return {
        f"{name}.{attribute}".lstrip("."): value
        for name, part in module.named_modules()
        for attribute, value in vars(part).items()
        if isinstance(value, ShardedTable)
    }


class StepsTables(DDPStrategy):
    """Mixed in before a strategy, which sees to the dense part: tables are allocated when the ranks are up,
    stepped where the optimizer is, and saved and loaded with each checkpoint. Without tables it does nothing.
    """

    @property
    def tables(self) -> dict[str, ShardedTable]:
        assert self.lightning_module is not None
        return tables_of(self.lightning_module)

    def setup_environment(self) -> None:
        super().setup_environment()
        if not self.tables:
            return
        assert self.lightning_module is not None
        trainer = self.lightning_module.trainer
        if trainer.precision == "16-mixed":
            raise InputError(
                "model.table=sharded has no loss scaling; train with trainer.precision=bf16-mixed"
            )
        if trainer.gradient_clip_val and trainer.gradient_clip_algorithm == "value":
            raise InputError("model.table=sharded clips by norm; set trainer.gradient_clip_algorithm=norm")
        fused = any(table.is_fused for table in self.tables.values())
        for name, is_set in (
            ("accumulate_grad_batches", trainer.accumulate_grad_batches > 1),
            ("gradient_clip_val", trainer.gradient_clip_val),
        ):
            if fused and is_set:
                raise InputError(
                    f"model.table=torchrec updates rows within every backward pass: trainer.{name} would not "
                    "hold for them; leave it or take model.table=sharded"
                )
        for table in self.tables.values():
            table.allocate(self.root_device, node_ranks=self.num_processes)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        for table in self.tables.values():
            if isinstance(table, TorchRecTable):
                table.set_rate(self._lr_factor())
        return super().training_step(*args, **kwargs)

    def _lr_factor(self) -> float:
        """Of the dense part's schedule, for the step at hand."""
        assert self.lightning_module is not None
        factor = 1.0
        for scheduled in self.lightning_module.trainer.lr_scheduler_configs:
            factor = float(scheduled.scheduler.get_last_lr()[0] / scheduled.scheduler.base_lrs[0])
        return factor

    def optimizer_step(self, *args: Any, **kwargs: Any) -> Any:
        """The tables follow the dense part's schedule and clipping, each by its own norm."""
        # DeepSpeed is called for each micro batch and has to be asked before it counts this one
        is_step = True
        if isinstance(self, DeepSpeedStrategy):
            is_step = self.deepspeed_engine.is_gradient_accumulation_boundary()
        done = super().optimizer_step(*args, **kwargs)
        assert self.lightning_module is not None
        trainer = self.lightning_module.trainer
        if is_step:
            for table in self.tables.values():
                table.step(max_norm=trainer.gradient_clip_val, lr_factor=self._lr_factor())
        return done

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """The tables first, into a new folder that the checkpoint names; then the checkpoint takes its place,
        and only then go the tables of the one before.
        """
        tables = self.tables
        if not tables:
            super().save_checkpoint(checkpoint, filepath, storage_options)
            return
        path = Path(self.broadcast(str(filepath)))
        folder = tables_home(path) / f"step-{checkpoint['global_step']}"
        save_tables(tables, folder)
        if self.is_global_zero:
            seal(folder, num_ranks=self.world_size)
        checkpoint[TABLES] = str(folder.relative_to(path.parent))
        super().save_checkpoint(checkpoint, path, storage_options)
        self.barrier()
        if self.is_global_zero:
            for old in folder.parent.iterdir():
                if old != folder:
                    shutil.rmtree(old, ignore_errors=True)

    def load_checkpoint(self, checkpoint_path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        checkpoint = super().load_checkpoint(checkpoint_path, *args, **kwargs)
        tables = self.tables
        if bool(tables) != (TABLES in checkpoint):
            saved = "sharded" if TABLES in checkpoint else "replicated"
            raise InputError(f"{checkpoint_path} was trained with model.table={saved}; go on with the same")
        if tables:
            load_tables(tables, Path(checkpoint_path).parent / checkpoint[TABLES])
        return checkpoint

    def remove_checkpoint(self, filepath: Any) -> None:
        super().remove_checkpoint(filepath)
        if self.is_global_zero:
            shutil.rmtree(tables_home(Path(filepath)), ignore_errors=True)
