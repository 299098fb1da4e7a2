"""One Spark session for the whole run, started by the first test that asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    from spark_jobs.session import start_session
    from spark_jobs.settings import SparkSettings

    session = start_session(
        SparkSettings(
            master="local[2]",
            driver_memory="1g",
            shuffle_partitions=2,
            java_options="-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
            conf={"spark.sql.adaptive.enabled": "false"},
        )
    )
    yield session
    session.stop()
