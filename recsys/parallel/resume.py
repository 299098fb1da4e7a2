"""All ranks go on from the checkpoint that the first one chooses.

Each for itself they might choose different ones, where nodes see a shared file system at different ages; and
each would read all of it to see whether it is whole.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.connectors.checkpoint_connector import _CheckpointConnector

from recsys.parallel.checkpoints import to_resume
from recsys.parallel.dealing import of_all_ranks
from recsys.schema import InputError

SEEN_WITHIN_S = 60.0  # NFS looks at a folder anew as often as that by default


def go_on(
    trainer: pl.Trainer,
    *,
    resume: str | None,
    folder: Path,
    check: Callable[[Path], None] = lambda path: None,
) -> None:
    """Before `fit`: `resume` and `folder` are those of `to_resume`; `check` raises InputError for one
    of another run. All ranks raise what the first one meets.
    """
    trainer._checkpoint_connector = _FirstRanks(trainer, resume=resume, folder=folder, check=check)


class _FirstRanks(_CheckpointConnector):
    """Lightning wants the path before its ranks know of each other; here it is chosen once they do."""

    def __init__(
        self, trainer: pl.Trainer, *, resume: str | None, folder: Path, check: Callable[[Path], None]
    ) -> None:
        super().__init__(trainer)
        self._resume, self._folder, self._check = resume, folder, check

    def resume_start(self, checkpoint_path: Any = None, weights_only: bool | None = None) -> None:
        super().resume_start(self._chosen(), weights_only=weights_only)

    def _chosen(self) -> Path | None:
        path, fault = None, None
        if self.trainer.is_global_zero:
            try:
                path = to_resume(self._resume, self._folder)
                if path is not None:
                    self._check(path)
            except InputError as error:
                fault = str(error)
        path, fault = self.trainer.strategy.broadcast((path, fault))
        if fault is not None:
            raise InputError(fault)
        if path is not None:
            _check_seen(path)
        return path


def _check_seen(path: Path) -> None:
    """InputError on all ranks where one does not see the file or the folder."""
    end = time.monotonic() + SEEN_WITHIN_S
    while not (is_seen := path.exists()) and time.monotonic() < end:
        time.sleep(1)
    hosts = of_all_ranks(None if is_seen else socket.gethostname())
    blind = [f"rank {rank} on {host}" for rank, host in enumerate(hosts) if host is not None]
    if blind:
        raise InputError(
            f"checkpoint {path} is there for the first rank, not for {' and '.join(blind[:4])}; "
            "keep output_dir on a file system that every node sees"
        )
