"""One Spark session for the whole run; a small data set and its model, made by the first test that asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    from spark_jobs.session import start_session
    from spark_jobs.settings import SparkSettings
    from tests.spark_jobs.mariadb import DRIVER

    session = start_session(
        SparkSettings(
            master="local[2]",
            driver_memory="2g",
            shuffle_partitions=2,
            java_options="-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
            jars=[str(DRIVER)] if DRIVER.exists() else [],
            conf={
                "spark.sql.adaptive.enabled": "false",
                "spark.sql.ui.retainedExecutions": 100,  # each with its plan; this session sees thousands
            },
        )
    )
    yield session
    session.stop()


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working folder of the small data set: features/, models/, outputs/ lie in it."""
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="session")
def tiny_tables(spark: Any, tiny_root: Path) -> Path:
    """Version folder of feature tables of 150 customers of UCI Online Retail. Read only."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from recsys.entry import conf_dir
    from recsys.settings import read_settings
    from spark_jobs import job
    from spark_jobs.settings import JobSettings

    raw = tiny.write_raw(tiny_root / "raw.parquet")
    folders = [f"{name}_dir={tiny_root / name}" for name in ("features", "feedback")]
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose(
            "spark_jobs", overrides=[*tiny.TABLE_OVERRIDES, f"dataset.events.path={raw}", *folders]
        )
    settings = read_settings(JobSettings, OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
    return job.build(settings, spark)


@pytest.fixture(scope="session")
def tiny_bundle(tiny_tables: Path, tiny_root: Path) -> Path:
    """Folder of a bundle named `tiny`, trained for one epoch on `tiny_tables`. Read only."""
    tiny.run("-m", "recsys", "train", "name=tiny", *tiny.TRAIN_OVERRIDES, cwd=tiny_root)
    return tiny_root / "models" / "online_retail" / "tiny"
