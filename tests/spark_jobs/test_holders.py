"""What processes left half written when they died is cleared; what the living write is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recsys.disk import in_use
from recsys.schema import InputError
from spark_jobs.holders import bring_back, check_nothing_recommended, clear_unfinished
from tests.spark_jobs.test_erase import settings

VERSION = "20240102T030405Z-0123abcd"


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_left_overs_of_the_dead_go_and_what_they_moved_aside_comes_back(tmp_path: Path) -> None:
    dead, alive = dead_process(), os.getpid()
    root, outcomes = tmp_path / "features" / "shop", tmp_path / "feedback" / "shop" / "outcomes"
    run = tmp_path / "outputs" / "shop" / "run"
    there = [
        root / f".replaced-{VERSION}-{dead}" / "metadata.json",  # its place is empty
        root / f".building-{VERSION}-{alive}" / "metadata.json",
        root / f".building-far-1-0123abcd-{dead}" / "metadata.json",  # of another machine
        outcomes / f".unfinished-{alive}",
        run / f".building-last.ckpt-{dead}" / "weights",  # names nobody
        run / "recommendations" / "top_k.parquet",
        run / ".parts-recommendations-fedcba9876543210" / "000000" / "top_k.parquet",  # in use below
    ]
    gone = [
        root / f".building-{VERSION}-{dead}" / "metadata.json",
        outcomes / f".building-0123abcd.parquet-{dead}",
        outcomes / f".unfinished-{dead}",
        run / f".replaced-recommendations-{dead}" / "top_k.parquet",
        run / "recommendations" / f".building-top_k.parquet-{dead}",
        run / ".parts-recommendations-0123456789abcdef" / "000000" / "top_k.parquet",
    ]
    for path in (*there, *gone):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    chosen = settings(tmp_path)
    with in_use(there[-1].parents[1]):
        clear_unfinished(chosen)
        assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(there)
        with pytest.raises(InputError, match=r"written into .*/outputs/shop/run; let recommend end"):
            check_nothing_recommended(chosen)
    check_nothing_recommended(chosen)
    bring_back(chosen)
    back = root / VERSION / "metadata.json"
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {back, *there[1:]}
