"""A small cut of UCI Online Retail, and the real commands run on it in processes of their own."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
RAW = ROOT / "data" / "online_retail" / "online_retail.parquet"
NUM_USERS = 150

# What a cut of a few users cannot keep to; the rest of conf/dataset/online_retail.yaml holds.
TABLE_OVERRIDES = (
    "dataset=online_retail",
    *(f"dataset.quality.min_{what}=1" for what in ("rows", "users", "items")),
    "dataset.split.train_every_days=56",
    "spark.master='local[2]'",
    "spark.driver_memory=1g",
    "spark.shuffle_partitions=2",
)
TRAIN_OVERRIDES = (
    "fit_until=test",
    "model.width=16",
    "model.score_width=16",
    "model.num_blocks=1",
    "trainer.max_epochs=1",
    "logger.wandb=null",
    "~callbacks.progress",
    "+trainer.enable_progress_bar=false",
)


def write_raw(path: Path, *, num_users: int = NUM_USERS) -> Path:
    """The invoice lines of a fixed sample of customers."""
    lines = pq.read_table(RAW)
    customers = sorted(lines["CustomerID"].drop_null().unique().to_pylist())
    chosen = pa.array(random.Random(7).sample(customers, num_users), lines.schema.field("CustomerID").type)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(lines.filter(pc.is_in(lines["CustomerID"], value_set=chosen)), path)
    return path


def run(*arguments: str, cwd: Path, code: int = 0, timeout: float = 400) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS` in the folder `cwd`, with this checkout's code; its exit code must be `code`."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
