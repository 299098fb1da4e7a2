"""Lists by the day: which are asked for, and that they are those that `recommend` would have shown."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from recsys.bundle import load_bundle
from recsys.data.tables import FeatureTables
from recsys.evaluation.dial import dial_front
from recsys.evaluation.dial_accuracy import Asked, ndcg_of_users
from recsys.evaluation.views import ranking_views, targets_by_day
from recsys.metrics.ragged import Ragged
from recsys.policy.dial import DialConfig
from recsys.policy.slates import PolicyConfig
from recsys.recommendation import Recommender

DAY = 86_400


def taken_by_day(tables: FeatureTables) -> dict[tuple[int, int], set[int]]:
    """Items of known users that each took on each day of the test window, by (row, day)."""
    flat, table = tables.histories, tables.at_cut(split="test")
    known = tables.items("test").in_training
    found: dict[tuple[int, int], set[int]] = defaultdict(set)
    for row, (user, length) in enumerate(zip(table.user_index, table.prefix_length, strict=True)):
        if not length:
            continue
        for event in range(flat.offsets[user - 1] + length, flat.offsets[user]):
            day = (int(flat.timestamp[event]) - table.cut - 1) // DAY
            is_kept = not 0 < flat.returned_at[event] <= table.cut + tables.window_days * DAY
            is_target = flat.event_type[event] in tables.target_types
            if day < tables.window_days and is_target and is_kept and known[flat.item_index[event]]:
                found[row, day].add(int(flat.item_index[event]))
    return found


def test_targets_come_by_the_day_they_were_taken_on(tiny_tables: Path, tiny_root: Path) -> None:
    tables = FeatureTables(tables_dir=tiny_tables, cache_dir=tiny_root / "outputs" / "cache")
    table, items = tables.at_cut(split="test"), tables.items("test")
    view = ranking_views(tables, table, items, known=items.in_training)[0]
    row_A, day_A, targets = targets_by_day(tables, table, view)
    wanted = taken_by_day(tables)
    assert list(zip(row_A.tolist(), day_A.tolist(), strict=True)) == sorted(wanted)
    for place, key in enumerate(sorted(wanted)):
        assert set(targets.row(place).tolist()) == wanted[key]
    assert len(set(day_A.tolist())) > 5


def test_a_user_counts_once_however_many_days() -> None:
    targets = Ragged.from_lists([[7], [7, 9], [8]])
    lists_AK = np.zeros((3, 10), np.int64)
    lists_AK[:, :2] = [[7, 1], [1, 7], [1, 2]]
    found = ndcg_of_users(lists_AK, Asked(np.array([4, 4, 6]), targets, None))
    second = (1 / np.log2(3)) / (1 + 1 / np.log2(3))
    np.testing.assert_allclose(found, [(1 + second) / 2, 0])


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_policy_with_a_memory_is_judged_by_the_slates_of_the_day(market: Path) -> None:
    tables = FeatureTables(tables_dir=market / "features" / "market" / "latest", cache_dir=market / "cache")
    bundle = load_bundle(market / "models" / "market" / "loop")
    config = DialConfig(settings=[0.5], category_penalty=0.3, category_memory_days=3.0)
    front = dial_front(bundle=bundle, tables=tables, split="test", config=config)["front"]
    wanted, cut = taken_by_day(tables), tables.cut("test")
    for row in front:
        policy = PolicyConfig(
            kind="deterministic",
            slate_size=10,
            num_candidates=200,
            dial=row["dial"],
            category_penalty=0.3,
            category_memory_days=3.0,
        )
        ndcg: dict[int, list[float]] = defaultdict(list)
        slates: list[np.ndarray] = []
        for day in range(tables.window_days):
            shown = Recommender(
                bundle=bundle, tables=tables, at="test", top_k=10, policy=policy, shown_at=cut + day * DAY
            ).chunk(0)
            for user, items in ((user, items) for (user, on), items in wanted.items() if on == day):
                hits = [item in items for item in shown.slates.item_BK[user].tolist()]
                best = sum(1 / np.log2(rank + 2) for rank in range(min(10, len(items))))
                ndcg[user].append(sum(hit / np.log2(rank + 2) for rank, hit in enumerate(hits)) / best)
            slates.append(shown.slates.item_BK)
        by_user = [np.mean(figures) for figures in ndcg.values()]
        assert row["ndcg@10"] == pytest.approx(np.mean(by_user))
        assert (slates[0] != slates[-1]).any()
