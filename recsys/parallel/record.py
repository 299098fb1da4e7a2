"""What a checkpoint keeps of its run: the settings that hold from its first step to its last, and what its
weights mean, for a new run that starts from them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from recsys.data.tables import FeatureTables
from recsys.parallel.checkpoints import MANIFEST, RUN
from recsys.parallel.strategy import kind_of
from recsys.schema import InputError

_FREE = ("model.activation_checkpointing",)  # what is learned is the same
_ALIKE = ({"cpu", "ddp"}, {"sharded", "torchrec"})  # each goes on from the other's checkpoints


class RunRecord(pl.Callback):
    """Puts the record into every checkpoint."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.record: dict[str, Any] = json.loads(json.dumps(record))  # as a manifest gives it back

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[RUN] = self.record


def held_settings(settings: dict[str, Any], trainer: pl.Trainer, tables: FeatureTables) -> dict[str, Any]:
    """What a run may not change when it goes on, by the names of the command line.

    Free are ranks, devices, accumulation, workers, logging, how often is saved, and how long the run is: the
    schedule goes on as that of the longer run has it at this step.
    """
    held = {
        "trainer": kind_of(trainer.strategy),
        "trainer.precision": trainer.precision,
        "trainer.gradient_clip_val": trainer.gradient_clip_val,
        "trainer.gradient_clip_algorithm": trainer.gradient_clip_algorithm,
        "version": tables.version,
        "table_fingerprint": tables.fingerprint,
        **{name: settings[name] for name in ("fit_until", "warm_start")},
        **_flat({name: settings[name] for name in ("model", "objective", "optimizer", "scheduler")}),
        **_flat({f"data.{name}": settings["data"][name] for name in ("samples", "plan")}),
    }
    return {name: value for name, value in held.items() if name not in _FREE}


def check_same_run(checkpoint: Path, mine: dict[str, Any]) -> None:
    """Before any rank loads it. Raises InputError that names a setting (`held_settings`) that has changed."""
    before = record_of(checkpoint)["settings"]
    for name, now in json.loads(json.dumps(mine)).items():
        then = before.get(name)
        if then == now or any({then, now} <= group for group in _ALIKE if isinstance(then, str)):
            continue
        anew = "begin a new run under another name"
        if not name.startswith("model."):  # weights of another architecture would be refused
            anew += f", from these weights: warm_start={checkpoint}"
        raise InputError(
            f"checkpoint {checkpoint} was made with {name}={_said(then)}, and here is {name}={_said(now)}; "
            f"go on with the old one, or {anew}"
        )


def record_of(checkpoint: Path) -> dict[str, Any]:
    """What `RunRecord` kept; InputError where there is nothing."""
    if checkpoint.is_dir():
        record = json.loads((checkpoint / MANIFEST).read_text())[RUN]
    else:
        record = torch.load(checkpoint, map_location="cpu", weights_only=False, mmap=True).get(RUN)
    if record is None:
        raise InputError(
            f"checkpoint {checkpoint} has no record of its run; name one that `train` has written"
        )
    return dict(record)


def _flat(group: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in group.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _said(value: Any) -> str:
    return "null" if value is None else str(value).replace(" ", "")
