"""Which cells are hidden."""

from __future__ import annotations

from recsys.report.suppress import is_small, reasons_to_hide


def test_ten_people_are_enough_and_nine_are_not() -> None:
    assert [is_small(number) for number in (0, 9, 10, 11, None)] == [True, True, False, False, False]


def test_a_single_small_row_takes_the_next_smallest_with_it() -> None:
    rows = [{"n": 40}, {"n": 9}, {"n": 12}, {"n": 30}]
    assert reasons_to_hide(rows) == ["", "<10 people", "withheld", ""]


def test_two_small_rows_hide_each_other() -> None:
    assert reasons_to_hide([{"n": 3}, {"n": 9}, {"n": 12}]) == ["<10 people", "<10 people", ""]


def test_rows_without_a_count_are_shown() -> None:
    assert reasons_to_hide([{"day": 1}, {"day": 2}]) == ["", ""]
