"""Runs that are killed, and two at once: what is published stays whole, nothing half written is left."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from recsys.schema import InputError, Table
from spark_jobs import job
from spark_jobs.publish import BUILDING, LOCK, SUCCESS, TABLES
from tests import tiny
from tests.spark_jobs import shop

NUM_KILLS = 10
COMMAND = (*tiny.TABLE_OVERRIDES, "dataset.events.path=raw.parquet")


def started(folder: Path) -> subprocess.Popen[bytes]:
    """The command in a process group of its own, which its Java joins."""
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "spark_jobs", *COMMAND],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(tiny.ROOT), "PYSPARK_PYTHON": sys.executable},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def content(version: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(version.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(version)).encode() + path.read_bytes())
    return digest.hexdigest()


def check_whole(version: Path) -> None:
    counts = json.loads((version / Table.METADATA).read_text())["row_counts"]
    assert counts["rows_in"] == counts["rows_kept"] + counts["quarantined"] + counts["duplicates"]
    for name in TABLES:
        assert (version / name / SUCCESS).is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_at_any_moment_leaves_the_last_version_as_it_was(tmp_path: Path) -> None:
    tiny.write_raw(tmp_path / "raw.parquet")
    begun = time.monotonic()
    assert started(tmp_path).wait(timeout=300) == 0, (tmp_path / "log.txt").read_text()
    whole_s = time.monotonic() - begun
    root = tmp_path / "features" / "online_retail"
    latest, luck = (root / Table.LATEST).resolve(), random.Random(0)
    before, num_killed = content(latest), 0
    for number in range(NUM_KILLS):
        running = started(tmp_path)
        time.sleep(whole_s * (number + luck.random()) / NUM_KILLS)
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            num_killed += 1
        running.wait(timeout=60)
        newest = (root / Table.LATEST).resolve()
        if newest == latest:
            assert content(latest) == before
        else:  # it was quicker than the first one
            check_whole(newest)
            latest, before = newest, content(newest)
        for version in (path for path in root.iterdir() if path.name[0] != "." and path.is_dir()):
            check_whole(version)
    assert num_killed >= NUM_KILLS // 2
    assert started(tmp_path).wait(timeout=300) == 0
    check_whole((root / Table.LATEST).resolve())
    assert not list(root.glob(f"{BUILDING}*"))


@pytest.mark.slow
def test_a_java_that_is_killed_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    tiny.write_raw(tmp_path / "raw.parquet")
    running, log = started(tmp_path), tmp_path / "log.txt"
    while "cleaning" not in log.read_text():
        assert running.poll() is None, log.read_text()
        time.sleep(0.1)
    java = [each for each in psutil.Process(running.pid).children(recursive=True) if each.name() == "java"]
    assert java
    for each in java:
        each.kill()
    assert running.wait(timeout=60) == 2
    told = log.read_text()
    assert "error: Spark's Java process ended while it worked" in told.splitlines()[-1]
    assert "spark.driver_memory=1g" in told
    assert "Traceback" not in told
    assert not list((tmp_path / "features" / "online_retail").glob("[!.]*"))


@pytest.mark.slow
def test_two_runs_at_once_do_not_mix(tmp_path: Path) -> None:
    tiny.write_raw(tmp_path / "raw.parquet")
    codes = sorted(run.wait(timeout=300) for run in [started(tmp_path), started(tmp_path)])
    root = tmp_path / "features" / "online_retail"
    log = (tmp_path / "log.txt").read_text()
    assert codes in ([0, 2], [0, 0]), log  # the later one begins after the first has published, or is told to
    if codes == [0, 2]:
        assert "while this one was under way; run this one again" in log
    versions = [path for path in root.iterdir() if path.is_dir() and not path.is_symlink()]
    assert len(versions) == codes.count(0)
    for version in versions:
        check_whole(version)
    assert {path.name for path in root.iterdir()} == {Table.LATEST, LOCK, *(path.name for path in versions)}


def test_a_run_that_another_one_has_overtaken_publishes_nothing(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(shop.regular_lines(), tmp_path / "raw.parquet")
    settings = shop.settings(tmp_path / "raw.parquet", tmp_path)
    real, published = job.row_counts, []

    def overtaken(*arguments: Any) -> dict[str, int]:
        monkeypatch.setattr(job, "row_counts", real)
        published.append(job.build(settings, spark))
        return real(*arguments)

    monkeypatch.setattr(job, "row_counts", overtaken)
    with pytest.raises(InputError, match=r"another run published .* while this one was under way"):
        job.build(settings, spark)
    root = tmp_path / "features" / "shop"
    assert [path for path in root.iterdir() if path.is_dir() and not path.is_symlink()] == published
