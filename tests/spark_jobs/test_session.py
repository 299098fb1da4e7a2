"""Queries that go side by side."""

from __future__ import annotations

import time
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from pyspark.sql import functions as F

from spark_jobs.session import AT_ONCE, together


def test_results_come_in_order_and_tasks_go_side_by_side(spark: Any) -> None:
    meet = Barrier(AT_ONCE, timeout=30)  # broken if they went one after another
    spark.sparkContext.setLocalProperty("asked_by", "test")

    def task(number: int) -> tuple[int, str, int]:
        meet.wait()
        told = spark.sparkContext.getLocalProperty("asked_by")
        return number, told, spark.range(number).count()

    try:
        found = together(*[partial(task, number) for number in range(AT_ONCE)])
    finally:
        spark.sparkContext.setLocalProperty("asked_by", None)
    assert found == [(number, "test", number) for number in range(AT_ONCE)]


def test_a_failure_ends_the_others_and_is_raised(spark: Any) -> None:
    slow = F.expr("java_method('java.lang.Thread', 'sleep', 200L)")  # 20 s a task

    def fails() -> int:
        time.sleep(1)
        raise ValueError("no space left")

    began = time.monotonic()
    with pytest.raises(ValueError, match="no space left"):
        together(fails, lambda: spark.range(100).repartition(1).select(slow).collect(), lambda: 1)
    assert time.monotonic() - began < 15
    assert spark.range(3).count() == 3
