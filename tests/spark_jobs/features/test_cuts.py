"""Cuts in days that can be counted on fingers."""

from __future__ import annotations

import pytest

from recsys.schema import InputError, Split
from spark_jobs.features.cuts import find_cuts
from spark_jobs.settings import SplitSettings
from tests.spark_jobs.shop import seconds


def split(**changes: object) -> SplitSettings:
    plain = {"kind": "time", "test_cut": "2024-03-31", "window_days": 20, "train_every_days": 10}
    return SplitSettings(**(plain | {"min_train_days": 30, "horizons_days": [7]} | changes))  # type: ignore[arg-type]


def test_train_cuts_step_back_from_the_validation_cut() -> None:
    # day 90 is 2024-03-31 (2024 is a leap year: 31 + 29 + 30 days)
    cuts = find_cuts(split(), first_timestamp=seconds(0), last_timestamp=seconds(120))
    assert (cuts.test, cuts.validation) == (seconds(90), seconds(70))
    assert cuts.train == tuple(seconds(day) for day in (30, 40, 50, 60))
    assert cuts.labelled()[-3:] == [
        (seconds(70), Split.VALIDATION),
        (seconds(90), Split.TEST),
        (seconds(120), Split.NOW),
    ]


def test_days_before_the_end_count_from_the_last_midnight() -> None:
    cuts = find_cuts(
        split(test_cut=None, test_days_before_end=25),
        first_timestamp=seconds(0),
        last_timestamp=seconds(115.6),
    )
    assert cuts.test == seconds(90)


def test_a_time_zone_in_the_date_is_respected() -> None:
    cuts = find_cuts(
        split(test_cut="2024-03-31T02:00:00+02:00"), first_timestamp=seconds(0), last_timestamp=seconds(120)
    )
    assert cuts.test == seconds(90)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_cut": "31.3.2024"}, "is no ISO date"),
        ({"test_cut": "2025-03-31"}, "must lie inside the data [(]2024-01-01 00:00 to 2024-04-30 00:00[)]"),
        ({"min_train_days": 65}, "no train cut fits between 2024-03-06 00:00 and 2024-03-11 00:00"),
    ],
)
def test_cuts_outside_the_data_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_cuts(split(**changes), first_timestamp=seconds(0), last_timestamp=seconds(120))
