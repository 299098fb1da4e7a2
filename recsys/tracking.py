"""What a run tells: W&B, online where a key is there and offline otherwise; a CSV file; a quiet Lightning.

A run that is gone on with stays one run: the same W&B id, the same CSV file.
"""

from __future__ import annotations

import csv
import logging
import os
import secrets
import sys
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, WandbLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from recsys.disk import whole_file

# What Lightning tells every user in every run. Warnings, ranks and devices stay.
_OF_NO_USE = ("💡 Tip", "GPU available: False", "TPU available", "Loading `train_dataloader`")
_FINISH_S = 30.0  # for what is still to be uploaded; Slurm warns two minutes ahead


class RunLogger(WandbLogger):
    """W&B's own step is the optimizer's: it goes on where the run does, and rows of one step are one row."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.experiment.log({**metrics, "trainer/global_step": step}, step=step)


def wandb_logger(*, project: str, name: str, save_dir: str, resume: str | None = None) -> WandbLogger:
    """WANDB_MODE, where set, decides; else a key in WANDB_API_KEY means online.

    resume: that of the run. Where it is set, the run keeps the W&B id that its folder has.
    """
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")
    logging.raiseExceptions = False  # W&B logs from threads: on a full disk each line would print its trace
    mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    is_offline = mode in ("offline", "dryrun")  # `disabled` is for W&B itself to read
    logger = RunLogger(
        project=project,
        name=name,
        save_dir=save_dir,
        offline=is_offline,
        log_model=False,
        id=_run_id(Path(save_dir) / "wandb_run_id", keep=resume is not None),
    )
    logger._wandb_init.pop("anonymous", None)  # Lightning always hands it over, W&B always warns of it
    return logger


def _run_id(path: Path, *, keep: bool) -> str | None:
    """The id in the file, or a new one that is put there; None where W&B has one from elsewhere."""
    rank = rank_zero_only.rank  # type: ignore[attr-defined]
    if os.environ.get("WANDB_RUN_ID") or rank != 0:  # an agent's; a rank that tells nothing
        return None
    if keep and path.is_file():
        return path.read_text().strip()
    new = secrets.token_hex(4)
    with whole_file(path) as building:
        building.write_text(new + "\n")
    return new


def finish_wandb(exit_code: int) -> None:
    """Write the exit record: an offline run is whole with it. Waits for the network no longer than it may."""
    wandb = sys.modules.get("wandb")  # seconds to import where nobody has
    if wandb is not None and wandb.run is not None:
        ending = threading.Thread(target=wandb.run.finish, kwargs={"exit_code": exit_code}, daemon=True)
        ending.start()
        ending.join(_FINISH_S)


class CsvLogger(CSVLogger):
    """Writes `csv/metrics.csv` and `csv/hparams.yaml` in `save_dir`.

    resume: that of the run. Where it is set, earlier rows stay, up to the first step that is done again.
    """

    def __init__(self, *, save_dir: str, resume: str | None = None) -> None:
        super().__init__(save_dir=save_dir, name="csv", version="")
        self._goes_on = resume is not None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = _Rows(self.log_dir) if self._goes_on else ExperimentWriter(self.log_dir)
        return self._experiment


class _Rows(ExperimentWriter):
    """Lightning's writer, behind the rows that are in the file."""

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self._has_begun = False

    def _check_log_dir_exists(self) -> None:
        """Lightning's removes the file."""

    def log_metrics(self, metrics_dict: dict[str, float], step: int | None = None) -> None:
        if not self._has_begun and step is not None:
            self._go_back_to(step)
            self._has_begun = True
        super().log_metrics(metrics_dict, step)

    def _go_back_to(self, step: int) -> None:
        path = Path(self.metrics_file_path)
        if not path.is_file():
            return
        text = path.read_text()
        rows = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())  # a kill may have torn the last line
        earlier = [row for row in rows if int(row["step"]) < step]
        self.metrics_keys = list(rows.fieldnames or [])
        with whole_file(path) as building, building.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=self.metrics_keys)
            writer.writeheader()
            writer.writerows(earlier)


def quiet_lightning() -> None:
    """Leave out what says nothing about this run; call it before the trainer is made."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_is_of_use)
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    if int(os.environ.get("SLURM_NTASKS") or 1) == 1:  # of several tasks, forgotten, all would hang
        warnings.filterwarnings("ignore", message="The `srun` command is available on your system")


def _is_of_use(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_OF_NO_USE)
