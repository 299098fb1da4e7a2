"""Cells about fewer than ten people are not shown. Every table and plot asks here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MIN_PEOPLE = 10
SMALL_CELL = f"<{MIN_PEOPLE} people"
WITHHELD = "withheld"


def is_small(num_people: float | None) -> bool:
    """True where a known number of people is too small to show anything about them."""
    return num_people is not None and num_people < MIN_PEOPLE


def reasons_to_hide(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each row of a table, why its cells are hidden; empty where they are shown.

    Rows carry `n`, their number of people. A single small row could be found by subtraction from a total, so
    the next smallest goes with it.
    """
    sizes = [row.get("n") for row in rows]
    reasons = [SMALL_CELL if is_small(size) else "" for size in sizes]
    if reasons.count(SMALL_CELL) == 1:
        others = [
            (size, index) for index, size in enumerate(sizes) if size is not None and not reasons[index]
        ]
        if others:
            reasons[min(others)[1]] = WITHHELD
    return reasons
