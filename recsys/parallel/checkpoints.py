"""Checkpoints that are whole or absent, and the choice of the one to go on from.

A checkpoint is a file (one process, DDP) or a folder (DeepSpeed, a part a rank) with a manifest of its parts.
Sharded tables lie in a sealed folder beside it, which it names.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins import TorchCheckpointIO

from recsys.disk import whole_file
from recsys.schema import InputError

MANIFEST = "manifest.json"
TABLES = "tables"  # entry of a checkpoint: the folder of its tables, as seen from its own
RUN = "run"  # entry of a checkpoint: what it keeps of its run (`parallel.record`)
_TABLES_OF = ".tables-"
_UNFINISHED = (".building-", ".replaced-", ".universal-")
_NAME = re.compile(r"step-(\d+)\.ckpt")


def checkpoint_name(step: int | str) -> str:
    """A name that may stand on a command line as it is: Hydra's grammar takes no second `=`."""
    return f"step-{step}.ckpt"


def step_of(path: Path) -> int | None:
    """None where this is no name of a checkpoint."""
    found = _NAME.fullmatch(path.name)
    return int(found.group(1)) if found else None


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, checkpoint) of all in a folder, the earliest first."""
    steps = [(step_of(path), path) for path in (folder.iterdir() if folder.is_dir() else ())]
    return sorted((step, path) for step, path in steps if step is not None)


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning writes over the checkpoint that is there; this writes beside it and renames."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        content = io.BytesIO()  # torch's own files have errors of their own where the disk is full
        torch.save(checkpoint, content)
        with whole_file(Path(path)) as building:
            building.write_bytes(content.getbuffer())


class LastCheckpoints(ModelCheckpoint):
    """Keeps those of the last `save_top_k` steps, whoever had them saved. Lightning forgets that of a signal
    and the one that was gone on from.
    """

    def __init__(self, *, dirpath: str, every_n_train_steps: int, save_top_k: int) -> None:
        if save_top_k == 0:
            raise InputError("callbacks.checkpoint.save_top_k=0 keeps nothing to go on from; use 1 or more")
        super().__init__(
            dirpath=dirpath,
            filename=checkpoint_name("{step}").removesuffix(self.FILE_EXTENSION),
            auto_insert_metric_name=False,
            monitor="step",
            mode="max",
            save_top_k=save_top_k,
            every_n_train_steps=every_n_train_steps,
            enable_version_counter=False,
        )

    def save_now(self, trainer: pl.Trainer) -> Path:
        """The checkpoint of this step, which all ranks ask for."""
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
        return Path(self._last_checkpoint_saved)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The checkpoint that is gone on from is that of the step it has."""
        super().on_train_start(trainer, pl_module)
        self._last_global_step_saved = trainer.global_step
        self._last_checkpoint_saved = str(trainer.ckpt_path or "")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that is cut off later, while it is evaluated, need not train again."""
        super().on_train_end(trainer, pl_module)
        self.save_now(trainer)

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        if trainer.is_global_zero and self.save_top_k > 0:
            there = checkpoints(Path(filepath).parent)
            earlier = [path for step, path in there if step <= trainer.global_step]
            for path in earlier[: -self.save_top_k]:
                trainer.strategy.remove_checkpoint(path)
            _sweep(Path(filepath).parent)


def is_checkpoint(path: Path) -> bool:
    """Whether it looks like one, whole or not."""
    return path.is_file() or (path / MANIFEST).is_file()


def tables_home(checkpoint: Path) -> Path:
    """Beside the checkpoint, which may be a file or a folder; hidden, being none itself."""
    return checkpoint.with_name(f"{_TABLES_OF}{checkpoint.name}")


def seal(
    folder: Path, *, num_ranks: int, tables: str | None = None, run: dict[str, Any] | None = None
) -> None:
    """Write the manifest of a complete folder: size and hash of every part, how many ranks wrote it, where
    its tables lie, if it has any, and what it keeps of its run.
    """
    parts = {
        str(part.relative_to(folder)): {"bytes": part.stat().st_size, "sha256": _digest(part)}
        for part in sorted(folder.rglob("*"))
        if part.is_file() and part.name != MANIFEST
    }
    with whole_file(folder / MANIFEST) as building:
        content = {"num_ranks": num_ranks, TABLES: tables, RUN: run, "parts": parts}
        building.write_text(json.dumps(content, indent=1))


def ranks_of(folder: Path) -> int:
    """How many ranks wrote a sealed folder."""
    return int(json.loads((folder / MANIFEST).read_text())["num_ranks"])


def fault(path: Path) -> str | None:
    """What is wrong with a checkpoint; None where it can be gone on from."""
    try:
        if path.is_file():
            with zipfile.ZipFile(path) as parts:
                torn = parts.testzip()  # torch reads over a changed byte
            if torn is not None:
                return f"{torn} is not what was written"
            tables = torch.load(path, map_location="cpu", weights_only=False, mmap=True).get(TABLES)
        else:
            tables = json.loads((path / MANIFEST).read_text())[TABLES]
        for folder in (path if path.is_dir() else None, path.parent / tables if tables else None):
            changed = _changed_part(folder) if folder else None
            if changed is not None:
                return f"{changed} is not what was written"
    except Exception as error:  # whatever a torn file makes the reader stumble over
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'unreadable'}"
    return None


def _changed_part(folder: Path) -> Path | None:
    """Of a sealed folder."""
    for name, part in json.loads((folder / MANIFEST).read_text())["parts"].items():
        if (folder / name).stat().st_size != part["bytes"] or _digest(folder / name) != part["sha256"]:
            return folder / name
    return None


def newest_whole(folder: Path) -> Path | None:
    """The checkpoint of the latest step that is whole; damaged ones are named on stderr. None: begin anew."""
    for _, path in reversed(checkpoints(folder)):
        damage = fault(path)
        if damage is None:
            return path
        print(f"warning: checkpoint {path} is damaged ({damage}); the one before is used", file=sys.stderr)
    return None


def to_resume(resume: str | None, folder: Path) -> Path | None:
    """`auto`: the newest whole checkpoint in `folder`, if any. InputError where a named one is damaged."""
    if resume is None:
        return None
    if resume == "auto":
        return newest_whole(folder)
    damage = fault(Path(resume))
    if damage is not None:
        raise InputError(f"checkpoint {resume} cannot be read ({damage}); name another, or resume=auto")
    return Path(resume)


def _sweep(folder: Path) -> None:
    """Remove what killed attempts left half written, and tables whose checkpoint never came to be."""
    for path in list(folder.iterdir()):
        of = folder / path.name.removeprefix(_TABLES_OF)
        is_orphan = path.name.startswith(_TABLES_OF) and not of.exists()
        if not (is_orphan or path.name.startswith(_UNFINISHED)):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
