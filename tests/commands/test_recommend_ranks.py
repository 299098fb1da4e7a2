"""`recsys recommend` on ranks: what one process answers, also when it was cut off and went on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.schema import Recommendation
from tests import tiny
from tests.parallel.ranks import free_port, place_of

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(600)]
FILES = {"impressions.parquet", "item_vectors.parquet", "top_k.csv", "top_k.parquet", "user_vectors.parquet"}
CHUNK = 20


def start(root: Path, output: Path, num_ranks: int, *overrides: str) -> list[subprocess.Popen[str]]:
    port = free_port()
    settings = ("bundle=tiny", "at=test", "top_k=5", f"chunk_users={CHUNK}", f"output_dir={output}")
    return [
        subprocess.Popen(
            [sys.executable, "-m", "recsys", "recommend", *settings, *overrides],
            cwd=root,
            env=os.environ
            | {"PYTHONPATH": str(tiny.ROOT), "OMP_NUM_THREADS": "1"}
            | place_of(rank, num_ranks=num_ranks, port=port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(num_ranks)
    ]


def answered(root: Path, output: Path, num_ranks: int, *overrides: str) -> dict[str, bytes]:
    """What lies in the folder once all ranks have ended well."""
    ranks = start(root, output, num_ranks, *overrides)
    said = [(*rank.communicate(timeout=240), rank.returncode) for rank in ranks]
    assert [code for _, _, code in said] == [0] * num_ranks, said
    assert ["recommendations of" in out for out, _, _ in said] == [True] + [False] * (num_ranks - 1)
    assert not list(output.parent.glob(".*")), "parts go when all is written"
    return {path.name: path.read_bytes() for path in output.iterdir()}


@pytest.fixture(scope="module")
def alone(tiny_bundle: Path, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return answered(tiny_root, tmp_path_factory.mktemp("alone") / "out", 1)


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_write_what_one_process_writes(
    alone: dict[str, bytes], tiny_root: Path, tmp_path: Path, num_ranks: int
) -> None:
    assert alone.keys() >= FILES
    assert answered(tiny_root, tmp_path / "out", num_ranks) == alone


def test_the_size_of_chunks_changes_no_more_than_rounding(
    alone: dict[str, bytes], tiny_root: Path, tmp_path: Path
) -> None:
    whole = answered(tiny_root, tmp_path / "out", 1, "chunk_users=8192")
    for name, rounded in (("impressions", ["score", "propensity"]), ("top_k", ["score"])):
        one, other = (pq.read_table(pa.BufferReader(found[f"{name}.parquet"])) for found in (alone, whole))
        assert one.drop_columns(rounded).equals(other.drop_columns(rounded))
        for column in rounded:
            np.testing.assert_allclose(one[column], other[column], rtol=1e-4)


@pytest.mark.parametrize("num_neighbours", [0, 20])  # without: the best are found without all scores
def test_tables_sharded_in_training_lie_on_the_ranks(
    tiny_tables: Path, tiny_root: Path, tmp_path: Path, num_neighbours: int
) -> None:
    ranks = ("trainer=ddp", "trainer.devices=1", "model.table=sharded", "trainer.max_steps=2")
    ranks += (f"model.num_neighbours={num_neighbours}", f"name=shared{num_neighbours}")
    tiny.run("-m", "recsys", "train", *tiny.TRAIN_OVERRIDES, *ranks, cwd=tiny_root)
    whole = answered(tiny_root, tmp_path / "whole", 1, f"bundle=shared{num_neighbours}")
    assert answered(tiny_root, tmp_path / "ranks", 2, f"bundle=shared{num_neighbours}") == whole


@pytest.fixture
def cut_off(tiny_bundle: Path, tiny_root: Path, tmp_path: Path) -> Path:
    """Parts of a run of two ranks of which the second was killed when some were written."""
    first, second = start(tiny_root, tmp_path / "out", 2)
    try:
        end = time.monotonic() + 120
        while not (there := [path for path in tmp_path.glob(".parts-out-*/*") if path.name.isdigit()]):
            assert time.monotonic() < end
            time.sleep(0.002)
        second.kill()
        first.communicate(timeout=120)
        assert first.returncode != 0, "it must not end as if all were answered"
    finally:
        first.kill()
        second.communicate()
    assert not (tmp_path / "out").exists()
    return there[0].parent


def test_a_run_that_was_cut_off_computes_what_is_missing(
    alone: dict[str, bytes], tiny_root: Path, cut_off: Path, tmp_path: Path
) -> None:
    there = sorted(path for path in cut_off.iterdir() if path.name.isdigit())
    num_users = len(pq.read_table(pa.BufferReader(alone["user_vectors.parquet"])))
    assert 0 < len(there) < -(-num_users // CHUNK)
    marked = there[0] / "user_vectors.parquet"
    vectors = pq.read_table(marked)
    marks = pa.array([[0.0]] * len(vectors), vectors.schema.field(Recommendation.VECTOR).type)
    pq.write_table(vectors.set_column(1, Recommendation.VECTOR, marks), marked)

    found = answered(tiny_root, tmp_path / "out", 3)  # on other ranks, too
    differing = {name for name in alone if found[name] != alone[name]}
    assert differing == {"user_vectors.parquet"}
    kept = pq.read_table(pa.BufferReader(found["user_vectors.parquet"]))[Recommendation.VECTOR].to_pylist()
    assert sum(vector == [0.0] for vector in kept) == len(vectors), "what was there is taken as it is"


def test_other_settings_take_no_part_of_those_before(
    alone: dict[str, bytes], tiny_root: Path, cut_off: Path, tmp_path: Path
) -> None:
    for path in cut_off.glob("*/*.parquet"):
        path.write_bytes(b"no Parquet")
    unreadable = shutil.copytree(cut_off, tmp_path / "unreadable")
    for override in ("top_k=6", "policy.temperature=0.5", "policy.seed=1", "shown_at=2030-01-01"):
        shutil.copytree(unreadable, cut_off, dirs_exist_ok=True)
        assert answered(tiny_root, tmp_path / "out", 1, override) != alone
