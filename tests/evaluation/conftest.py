"""A logged market whose impressions were handed back, made once for the tests that need one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import tiny

DATASET = "dataset=market"
WORLD = ("world=default", "seed=0", "users=500", "items=60", "shelf_size=60", "days=60")
SPLIT = tuple(
    f"dataset.split.{name}" for name in ("test_days_before_end=7", "window_days=7", "horizons_days=[7]")
)
SPARK = ("spark.master='local[2]'", "spark.driver_memory=1g", "spark.shuffle_partitions=2")
TRAIN = (*(each for each in tiny.TRAIN_OVERRIDES if not each.startswith("fit_until")), "fit_until=validation")


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working folder: a log of a stochastic policy, handed back; tables; the bundle `loop`."""
    place = tmp_path_factory.mktemp("market")
    name = "myopic_revenue_stochastic"
    logged = ("output_dir=sim", f"policies=[{name}]", f"log={name}", "policy.temperature=0.3")
    tiny.run("-m", "recsys", "simulate", *WORLD, *logged, cwd=place)
    shutil.copytree(place / "sim" / "log", place / "outputs" / "simulate" / "default" / "log")
    hand_back(place, place / "sim" / "log" / "impressions.parquet", "feedback")
    tiny.run("-m", "recsys", "train", DATASET, "name=loop", *TRAIN, cwd=place)
    return place


def hand_back(place: Path, impressions: Path, folder: str) -> None:
    """Impressions into the folder, and new tables with them."""
    where = (DATASET, f"feedback_dir={folder}")
    tiny.run("-m", "recsys", "feedback", *where, f"impressions={impressions}", cwd=place)
    tiny.run("-m", "spark_jobs", *where, *SPLIT, *SPARK, cwd=place)
