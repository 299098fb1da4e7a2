"""Cut tables from Parquet: rows find their user and cut, whatever file they lie in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data import cut_tables
from recsys.data.cut_tables import CutTable, open_cut_tables
from recsys.data.tables import FeatureTables
from recsys.schema import SECONDS_PER_DAY, Table, UserNumeric
from tests import tiny

DAY = SECONDS_PER_DAY
CUTS = {"train": [10 * DAY, 20 * DAY], "validation": 30 * DAY, "test": 50 * DAY, "now": 90 * DAY}
EXAMPLES = [  # user, day, split, prefix_length
    *((4, 20, "train", 7), (2, 10, "train", 1), (2, 30, "validation", 5), (1, 20, "train", 0)),
    *((2, 20, "train", 3), (4, 30, "validation", 8), (4, 50, "test", 9)),
    *((3, 90, "now", 1), (4, 90, "now", 12)),
]
USERS = [
    (4, 20, 70.0, [1, 2]),
    (2, 10, 10.0, [3, 4]),
    (2, 20, 30.0, [5, 6]),
    (4, 30, 80.0, [7, 8]),
    (3, 90, 1.0, [9, 9]),
]
TARGETS = [  # user, day, spend by horizon, next active day, observed days
    *((2, 30, [4.0, 9.0], 25.0, 60.0), (4, 20, [1.0, 2.0], None, 70.0)),
    *((4, 30, [5.0, 6.0], 8.0, 60.0), (3, 20, [8.0, 8.0], 1.0, 70.0)),
]


def write(folder: Path, name: str, columns: dict[str, Any]) -> None:
    """In two files."""
    (folder / name).mkdir(parents=True)
    table = pa.table(columns)
    for k, part in enumerate((table.slice(0, 2), table.slice(2))):
        pq.write_table(part, folder / name / f"part-{k}.parquet")


def version(folder: Path) -> Path:
    user, day, split, prefix = zip(*EXAMPLES, strict=True)
    cut = [d * DAY for d in day]
    write(
        folder,
        Table.EXAMPLES,
        {"user_index": pa.array(user, pa.int32()), "cut": cut, "split": split, "prefix_length": prefix},
    )
    user, day, events, profile = zip(*USERS, strict=True)
    cut = [d * DAY for d in day]
    write(
        folder,
        Table.USER_FEATURES,
        {"user_index": user, "valid_from": cut, "num_events": events, "profile": profile},
    )
    user, day, spend, following, observed = zip(*TARGETS, strict=True)
    columns = {"user_index": user, "cut": [d * DAY for d in day], "spend": spend}
    columns |= {"num_purchases": [[1, 2]] * len(user), "num_active_days": [[1, 1]] * len(user)}
    columns |= {"next_active_days": pa.array(following, pa.float64()), "observed_days": observed}
    write(folder, Table.VALUE_TARGETS, columns)
    return folder


def opened(folder: Path) -> dict[tuple[str, int], CutTable]:
    tables: Any = SimpleNamespace(
        dir=folder,
        version=folder.name,
        cache_dir=folder.parent / "cache",
        metadata={"split": {"cuts": CUTS}, "num_users": 4, "profile_fields": ["a", "b"]},
        activity_names=UserNumeric.ALL,
        horizons_days=[7, 30],
        is_time_split=True,
        cut=lambda split: CUTS[split],
    )
    return open_cut_tables(tables)


@pytest.mark.parametrize("block", [1, 3, 500])
def test_rows_come_together_by_cut_and_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(cut_tables, "_BLOCK", block)
    found = opened(version(tmp_path / "v1"))
    days = [("train", 10), ("train", 20), ("validation", 30), ("test", 50), ("now", 90)]
    assert list(found) == [(split, day * DAY) for split, day in days]
    second = found["train", 20 * DAY]
    assert second.user_index.tolist() == [1, 2, 4]
    assert second.prefix_length.tolist() == [0, 3, 7]
    assert second.activity[1:, UserNumeric.ALL.index("num_events")].tolist() == [30, 70]
    assert np.isnan(second.activity[0]).all(), "without history"
    assert second.profile.tolist() == [[0, 0], [5, 6], [1, 2]]
    assert np.isnan(second.spend[:2]).all(), "without a target"
    assert second.spend[2].tolist() == [1, 2]
    assert second.num_purchases.tolist() == [[0, 0], [0, 0], [1, 2]]
    assert second.next_active_days.tolist() == [np.inf] * 3
    assert second.observed_days.tolist() == [0, 0, 70]


def test_what_follows_the_test_cut_is_unknown_at_the_validation_cut(tmp_path: Path) -> None:
    table = opened(version(tmp_path / "v1"))["validation", 30 * DAY]
    assert table.observed_days.tolist() == [20, 20]
    assert table.spend[:, 0].tolist() == [4, 5]
    assert np.isnan(table.spend[:, 1]).all(), "30 days are more than the 20 to the test cut"
    assert table.next_active_days.tolist() == [np.inf, 8]


def test_nothing_is_known_to_follow_the_end_of_the_data(tmp_path: Path) -> None:
    table = opened(version(tmp_path / "v1"))["now", 90 * DAY]
    assert (table.user_index.tolist(), table.prefix_length.tolist()) == ([3, 4], [1, 12])
    assert table.activity[0, UserNumeric.ALL.index("num_events")] == 1
    assert table.profile[0].tolist() == [9, 9]
    assert np.isnan(table.spend).all()
    assert table.observed_days.tolist() == [0, 0]
    assert table.next_active_days.tolist() == [np.inf, np.inf]


def test_the_rows_of_some_users(tmp_path: Path) -> None:
    table = opened(version(tmp_path / "v1"))["train", 20 * DAY]
    assert table.of_users(1, 3).user_index.tolist() == [2]
    assert table.of_users(1, 4).prefix_length.tolist() == [3, 7]
    assert table.of_users(2, 3).profile.shape == (0, 2)


def test_a_process_that_finds_the_histories_built_builds_the_rest(tiny_tables: Path, tmp_path: Path) -> None:
    """It has loaded only what this part needs."""
    assert len(FeatureTables(tables_dir=tiny_tables, cache_dir=tmp_path).histories.item_index)
    asks = (
        "from recsys.data.tables import FeatureTables\n"
        f"tables = FeatureTables(tables_dir={str(tiny_tables)!r}, cache_dir={str(tmp_path)!r})\n"
        "print(tables.at_cut(split='test').cut)"
    )
    done = tiny.run("-c", asks, cwd=tmp_path)
    assert int(done.stdout) > 0
