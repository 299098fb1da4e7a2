"""A version appears whole or not at all."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from recsys.schema import SCHEMA_VERSION, Table
from spark_jobs import publish


def fill(folder: Path) -> None:
    for table in publish.TABLES:
        (folder / table).mkdir()
        (folder / table / publish.SUCCESS).touch()
    publish.write_document({"schema_version": SCHEMA_VERSION}, folder, Table.METADATA)
    publish.write_document({}, folder, Table.VOCABULARIES)
    publish.write_document({}, folder, Table.QUALITY)
    publish.write_document({}, folder, Table.PROFILE)


def test_latest_moves_to_each_new_version(tmp_path: Path) -> None:
    for version in ("one", "two"):
        with publish.building(tmp_path) as folder:
            fill(folder)
            assert publish.publish(folder, version) == tmp_path / version
    assert os.readlink(tmp_path / Table.LATEST) == "two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "one", "two"]
    assert publish.latest_version(tmp_path) == (
        (tmp_path / "two").resolve(),
        {"schema_version": SCHEMA_VERSION},
    )


def test_a_table_without_its_success_mark_is_not_published(tmp_path: Path) -> None:
    with publish.building(tmp_path) as folder:
        fill(folder)
        (folder / Table.HISTORIES / publish.SUCCESS).unlink()
        with pytest.raises(RuntimeError, match="histories was not written"):
            publish.publish(folder, "one")
    assert list(tmp_path.iterdir()) == []


def test_only_left_overs_of_dead_processes_are_removed(tmp_path: Path) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    dead = tmp_path / f"{publish.BUILDING}{platform.node()}-aa-{gone.stdout.strip()}"
    alive = tmp_path / f"{publish.BUILDING}{platform.node()}-bb-{os.getppid()}"
    elsewhere = tmp_path / f"{publish.BUILDING}other-host-cc-{gone.stdout.strip()}"
    for folder in (dead, alive, elsewhere):
        folder.mkdir()
    with publish.building(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {alive.name, elsewhere.name}


def test_no_version_yet(tmp_path: Path) -> None:
    assert publish.latest_version(tmp_path) is None
