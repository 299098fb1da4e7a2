"""What one file's tests leave in Spark goes before the next file's."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession


@pytest.fixture(scope="module", autouse=True)
def forgotten_frames() -> Iterator[None]:
    """Java holds what a Python frame points to until Python collects it, which with torch loaded is late."""
    yield
    gc.collect()
    if (session := SparkSession.getActiveSession()) is not None:
        session.catalog.clearCache()
