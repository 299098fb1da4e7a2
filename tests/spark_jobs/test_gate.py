"""Every check of the quality gate fails on its own and says why."""

from __future__ import annotations

from typing import Any

import pytest

from spark_jobs.gate import (
    QualityError,
    Thresholds,
    check_accounting,
    judge,
    measure_raw,
    raise_on_failure,
    report,
)

MEASURED = {
    "rows_in": 200,
    "with_user_key": 150,
    "with_item_id": 198,
    "with_timestamp": 190,
    "rows_kept": 100,
    "with_text": 80,
    "duplicates": 14,
    "outcomes_in_log": 4,
    "num_users": 7,
    "num_items": 9,
    "max_unit_price": 50.0,
    "max_quantity": 12.0,
    "first_timestamp": 0,
    "last_timestamp": 1_704_067_200,  # 2024-01-01
}
QUARANTINED = {"missing_user": 50, "zero_quantity": 40}


@pytest.mark.parametrize(
    ("bound", "passing", "failing", "shown"),
    [
        ("min_rows", 100, 101, "min_rows: 100, minimum 101"),
        ("min_users", 7, 8, "min_users: 7, minimum 8"),
        ("min_items", 9, 10, "min_items: 9, minimum 10"),
        ("min_user_share", 0.75, 0.76, "min_user_share: 0.75, minimum 0.76"),
        ("min_item_share", 0.99, 0.995, "min_item_share: 0.99, minimum 0.995"),
        ("min_timestamp_share", 0.95, 0.96, "min_timestamp_share: 0.95, minimum 0.96"),
        ("min_text_share", 0.8, 0.9, "min_text_share: 0.8, minimum 0.9"),
        ("max_duplicate_share", 0.05, 0.04, "max_duplicate_share: 0.05, maximum 0.04"),
        ("max_quarantined_share", 0.45, 0.44, "max_quarantined_share: 0.45, maximum 0.44"),
        ("max_unit_price", 50, 49, "max_unit_price: 50, maximum 49"),
        ("max_quantity", 12, 11, "max_quantity: 12, maximum 11"),
        ("max_age_days", 31, 30, "max_age_days: 31, maximum 30"),
    ],
)
def test_each_bound_passes_at_it_and_fails_beyond(
    bound: str, passing: float, failing: float, shown: str
) -> None:
    reference = {"reference_date": "2024-02-01"}
    good: dict[str, Any] = {bound: passing} | reference
    bad: dict[str, Any] = {bound: failing} | reference
    (check,) = judge(MEASURED, QUARANTINED, Thresholds(**good), has_time=True)
    assert check.passed
    raise_on_failure([check], unreadable={})
    with pytest.raises(QualityError, match=shown):
        raise_on_failure(judge(MEASURED, QUARANTINED, Thresholds(**bad), has_time=True), unreadable={})


def test_a_failed_gate_names_the_columns_that_hold_no_numbers() -> None:
    checks = judge(MEASURED, QUARANTINED, Thresholds(min_rows=101), has_time=True)
    with pytest.raises(QualityError, match=r"stand in columns\.value \(amount\): write 12\.50, or turn them"):
        raise_on_failure(checks, unreadable={"value": "amount"})


def test_shares_by_reason_have_their_own_bounds_or_the_default() -> None:
    bounds = Thresholds(max_share_by_reason={"missing_user": 0.25, "default": 0.1})
    by_name = {check.name: check for check in judge(MEASURED, QUARANTINED, bounds, has_time=True)}
    assert by_name["max_share_by_reason.missing_user"].passed
    assert not by_name["max_share_by_reason.zero_quantity"].passed
    assert by_name["max_share_by_reason.zero_quantity"].value == 0.2


def test_age_means_nothing_without_time() -> None:
    assert judge(MEASURED, {}, Thresholds(max_age_days=0.0), has_time=False) == []


def test_the_report_holds_values_thresholds_and_verdicts() -> None:
    checks = judge(MEASURED, QUARANTINED, Thresholds(min_rows=1), has_time=True)
    shown = report(checks, QUARANTINED, {"rows_in": 200})
    assert shown["checks"] == [
        {"name": "min_rows", "value": 100.0, "bound": "min", "threshold": 1.0, "passed": True}
    ]
    assert shown["quarantined_by_reason"] == {"missing_user": 50, "zero_quantity": 40}


def test_lost_rows_are_never_let_through() -> None:
    check_accounting(rows_in=10, rows_kept=5, quarantined=3, duplicates=2)
    with pytest.raises(RuntimeError, match="rows are lost: 10 in, 5 kept, 3 quarantined, 1 duplicates"):
        check_accounting(rows_in=10, rows_kept=5, quarantined=3, duplicates=1)


def test_what_was_handed_in_is_counted_by_what_is_rejected(spark: Any) -> None:
    rows = [
        ("u", "A", 1, "1", None),
        ("u", None, 2, "2", None),  # a search, say, which needs no item
        (None, None, 3, "3", "missing_user"),
        ("u", None, 4, "4", "missing_item"),
        ("u", "A", None, "5", "bad_timestamp"),
        ("u", "A", 6, "outcome:7", None),
    ]
    schema = "user_key string, item_id string, timestamp long, order_id string, reason string"
    flagged = spark.createDataFrame(rows, schema)
    rejected = flagged.where("reason is not null")
    counts = measure_raw(flagged, rejected, has_outcomes=False)
    assert counts == {
        **{"rows_in": 6, "rows_clean": 3, "outcomes_in": 0},
        **{"with_user_key": 5, "with_item_id": 4, "with_timestamp": 5},
    }
    assert measure_raw(flagged, rejected, has_outcomes=True) == counts | {"outcomes_in": 1}
