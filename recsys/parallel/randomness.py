"""Every rank's random state in the checkpoint: a resumed run drops out what the unbroken one would."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist


class RandomStates(pl.Callback):
    """Put back before the first step. Where a run starts each rank begins a stream of its own, since
    Lightning gives all of them one seed. On another number of ranks too, drawn from what was saved: the order
    of samples is the plan's and stays, dropout differs.
    """

    def __init__(self) -> None:
        self._saved: list[dict[str, Any]] | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        states: list[Any] = [None] * trainer.world_size
        if dist.is_initialized():
            dist.all_gather_object(states, _state())
        else:
            states = [_state()]
        checkpoint["random_states"] = states

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._saved = checkpoint.get("random_states")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._saved is None and trainer.global_step == 0 and trainer.world_size > 1:
            _begin_own_stream(trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._saved is None:
            return
        if len(self._saved) == trainer.world_size:
            _restore(self._saved[trainer.global_rank])
        else:
            torch.set_rng_state(self._saved[0]["cpu"])
            _begin_own_stream(trainer)
        self._saved = None


def _begin_own_stream(trainer: pl.Trainer) -> None:
    """From a state that all ranks share."""
    seeds = torch.randint(2**62, (trainer.world_size,))
    torch.manual_seed(int(seeds[trainer.global_rank]))


def _state() -> dict[str, Any]:
    has_gpu = torch.cuda.is_available()
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if has_gpu else None}


def _restore(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
