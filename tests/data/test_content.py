"""Mapped content is what the whole catalogue holds, for the rows and times asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys.build import catalogue_at
from recsys.data import content
from recsys.data.popularity import period_starts, popularity_at
from recsys.data.tables import FeatureTables
from tests.data.shop import many_users


def test_a_part_is_that_part_of_the_whole(
    tiny_tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "_BLOCK", 100)
    tables = FeatureTables(tables_dir=tiny_tables, cache_dir=tmp_path)
    times = period_starts(tables, tables.cut("validation"))
    whole = catalogue_at(tables, "validation", times=times)
    item_V = np.sort(np.random.default_rng(0).choice(tables.num_items + 1, 150, replace=False))
    time_T = np.array([3, 20])
    part = tables.content("validation", times).take(item_V, time_T)
    width = whole.tokens_VT.shape[1]
    assert width > 1
    assert not part.tokens_VT[:, width:].any()
    expected = whole._replace(popularity_TVW=whole.popularity_TVW[time_T])
    for name, found in part._replace(tokens_VT=part.tokens_VT[:, :width])._asdict().items():
        column = getattr(expected, name)
        wanted = column[:, item_V] if name == "popularity_TVW" else column[item_V]
        assert found.dtype == wanted.dtype, name
        assert torch.equal(found, wanted), name
    assert part.popularity_TVW.max() > 0
    assert 0 < part.in_training_V.sum() < len(item_V)


def test_files_are_made_once_and_a_failure_leaves_none(
    tiny_tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = FeatureTables(tables_dir=tiny_tables, cache_dir=tmp_path)
    times = np.array([tables.cut("test")])
    made = content._write_content

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(content, "_write_content", full)
    with pytest.raises(OSError, match=f"{tables.version}-content-test"):
        tables.content("test", times)
    assert not [path for path in tmp_path.iterdir() if "content" in path.name]
    monkeypatch.setattr(content, "_write_content", made)
    tables.content("test", times)
    monkeypatch.setattr(content, "_write_content", full)
    assert len(tables.content("test", times).in_training_V) == tables.num_items + 1


def test_popularity_of_a_block_of_items() -> None:
    shop: Any = many_users()
    times = period_starts(shop, shop.cut("test"))
    whole = popularity_at(shop, times)
    parts = [popularity_at(shop, times, low=low, high=min(low + 8, 21)) for low in range(0, 21, 8)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
