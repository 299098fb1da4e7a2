"""Figures of a frame, all those asked for in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame


def measured(frame: DataFrame, measures: Mapping[str, SparkColumn]) -> dict[str, Any]:
    """Name -> value of an aggregate; nothing is read where nothing is asked."""
    if not measures:
        return {}
    row = frame.agg(*[measure.alias(name) for name, measure in measures.items()]).first()
    assert row is not None
    return row.asDict()
