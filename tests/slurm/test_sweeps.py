"""Sweeps by Hydra: its launchers on Slurm and on a laptop, Optuna's study that outlives a call, the front."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny
from tests.slurm.box import SlurmBox

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]

SMALL = [o for o in tiny.TRAIN_OVERRIDES if not o.startswith("fit_until")]
ON_SLURM = (
    "hydra/launcher=submitit_slurm",
    "hydra.launcher.partition=main",
    "hydra.launcher.cpus_per_task=1",
)


def sweep(place: Path, *overrides: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "train.py", "-m", "experiment=sweep", *SMALL, *overrides],
        cwd=place,
        env=(env or dict(os.environ)) | {"PYTHONPATH": str(tiny.ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def front(place: Path) -> list[dict[str, str]]:
    """The table of the newest sweep."""
    newest = max((place / "multirun" / "sweep").iterdir(), key=lambda folder: folder.name)
    assert "plotly" in (newest / "pareto.html").read_text()
    with (newest / "pareto.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_study_goes_on_on_slurm(box: SlurmBox, place_with_tables: Path) -> None:
    place = place_with_tables
    said = sweep(place, *ON_SLURM, "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2", env=box.env)
    assert "of 2 runs are in the front" in said
    assert len(front(place)) == 2
    logs = list((place / "multirun").glob("sweep/*/.submitit/*/*_log.out"))
    assert len(logs) == 2  # tasks of one array of Slurm
    assert len({log.name.split("_")[0] for log in logs}) == 1

    said = sweep(place, *ON_SLURM, "hydra.sweeper.n_trials=1", env=box.env)
    runs = front(place)
    assert [run["run"] for run in runs] == ["0", "1", "2"]
    names = [column for column in runs[0] if "/" in column]
    assert names == ["ranking/all/ndcg@10/aurm", "value/30d/gini/aurm"]
    assert f"of 3 runs are in the front: {place / 'multirun'}" in said


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_laptop(place_without_slurm: Path, launcher: str) -> None:
    place = place_without_slurm
    sweep(place, f"hydra/launcher={launcher}", "hydra.sweeper.n_trials=1")
    assert [run["in_front"] for run in front(place)] == ["True"]
