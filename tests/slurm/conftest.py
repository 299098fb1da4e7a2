"""One throw-away Slurm for the run; a folder to submit from, with feature tables and this checkout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny
from tests.slurm.box import SlurmBox, why_not


@pytest.fixture(scope="session")
def running_box() -> Iterator[SlurmBox]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with SlurmBox() as box:
        yield box


@pytest.fixture
def box(running_box: SlurmBox) -> SlurmBox:
    """With all its nodes idle and no job of another test."""
    running_box.slurm("scancel", "--full", "--user=root")
    running_box.wait_for_nodes()
    return running_box


@pytest.fixture
def place(box: SlurmBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout to submit from, as far as the files of slurm/ look at it."""
    for name in ("slurm", "train.py", "recsys", "spark_jobs", "conf"):
        (tmp_path / name).symlink_to(tiny.ROOT / name)
    for name, value in {
        "PYTHON": sys.executable,
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(tiny.ROOT),
        "OMP_NUM_THREADS": "1",
    }.items():
        monkeypatch.setitem(box.env, name, value)
    return tmp_path


@pytest.fixture
def place_without_slurm(tmp_path: Path, tiny_tables: Path) -> Path:
    """A laptop's checkout."""
    for name, target in {"train.py": tiny.ROOT / "train.py", "features": tiny_tables.parents[1]}.items():
        (tmp_path / name).symlink_to(target)
    return tmp_path


@pytest.fixture
def place_with_tables(place: Path, tiny_tables: Path) -> Path:
    (place / "features").symlink_to(tiny_tables.parents[1])
    return place
