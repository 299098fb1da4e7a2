"""Settings check themselves and name what is wrong by its path."""

from __future__ import annotations

from typing import Any

import pytest

from recsys.schema import InputError
from recsys.settings import read_settings
from spark_jobs.settings import Dataset, SourceTable

TIME = {"kind": "time", "test_cut": "2024-01-01"}
GOOD: dict[str, Any] = {
    "name": "shop",
    "events": {"path": "log.csv", "format": "csv"},
    "columns": {"user_id": "u", "item_id": "i", "timestamp": "t", "event_type": "'view'"},
    "event_types": ["view"],
    "target_event_types": ["view"],
    "split": {"kind": "leave_one_out"},
}


def test_groups_become_dataclasses_with_defaults() -> None:
    dataset = read_settings(Dataset, GOOD)
    assert dataset.events == SourceTable(path="log.csv", format="csv")
    assert not dataset.has_value
    assert dataset.event_type_index == {"view": 1}


def test_money_needs_a_value_or_quantity_and_price() -> None:
    columns = GOOD["columns"]
    only_quantity = read_settings(Dataset, GOOD | {"columns": columns | {"quantity": "q"}})
    both = read_settings(Dataset, GOOD | {"columns": columns | {"quantity": "q", "unit_price": "p"}})
    assert (only_quantity.has_value, both.has_value) == (False, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "dataset.colour is not a setting"),
        ({"name": None}, "dataset.name is missing"),
        ({"event_types": "view"}, "dataset.event_types must be of type list"),
        ({"events": {"path": "x", "format": "xls"}}, "format 'xls' of x is not known"),
        ({"target_event_types": ["buy"]}, "target_event_types must name some of event_types"),
        ({"split": {"kind": "time"}}, "exactly one of test_cut and test_days_before_end"),
        ({"split": TIME}, "split.horizons_days names no days"),
        ({"split": TIME | {"horizons_days": [60, 7]}}, r"split.horizons_days \[60, 7\] must rise"),
        ({"split": TIME | {"horizons_days": [7, 7]}}, "must rise, none twice"),
        ({"split": {"kind": "random"}}, "split.kind 'random' is not known"),
        ({"split": TIME | {"horizons_days": [7]}, "has_time": False}, "has no time"),
        ({"join": {"path": "b"}}, "join.keys must name the columns"),
        ({"join": {"path": "b", "keys": ["k"], "appended_by": "k"}}, "appended_by belongs to events"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_settings(Dataset, GOOD | change, where="dataset")
