"""Another future changes nothing at the cut, unless the data set's SQL or a step of ours looks ahead."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import functions as F

from recsys.pseudonym import Key
from spark_jobs.features import items as item_steps
from spark_jobs.features import users as user_steps
from spark_jobs.leaks.future import FutureChanges, _mixed, _sampled, future_changes
from spark_jobs.settings import Dataset
from spark_jobs.sources import read_events
from tests.spark_jobs import shop

CUT = shop.seconds(75)
KEY = Key(secret=b"a secret of sixteen", version="v", is_demo=False)


@pytest.fixture(scope="module")
def raw_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop with a purchase that was sent back after the cut, and two of one item in one second."""
    lines = [
        *shop.regular_lines(),
        shop.line("u2", "B", 100, quantity=-1, price=3.0, invoice="C2"),
        shop.line("u1", "A", 60, invoice="two", country="FR", text="BLUE A CUP"),
        shop.line("u1", "A", 60, invoice="three", country="DE"),
    ]
    return shop.write(lines, tmp_path_factory.mktemp("future") / "raw.parquet")


def changes(spark: Any, dataset: Dataset, *, share: float = 1.0) -> FutureChanges:
    raw = read_events(spark, dataset)
    return future_changes(raw, dataset, cut=CUT, now=shop.seconds(130), key=KEY, share=share)


def with_column(raw_path: Path, **columns: Any) -> Dataset:
    plain = shop.dataset(raw_path)
    return dataclasses.replace(plain, columns=dataclasses.replace(plain.columns, **columns))


def test_steps_that_keep_to_the_cut_have_no_change(spark: Any, raw_path: Path) -> None:
    # u1, u2 and u3 with A, B and C; "late" and D come after the cut
    assert changes(spark, shop.dataset(raw_path)) == FutureChanges(changed={}, compared=6)


def test_later_lines_are_other_ones_and_earlier_ones_the_same(spark: Any, raw_path: Path) -> None:
    dataset = shop.dataset(raw_path)
    lines = _sampled(read_events(spark, dataset), dataset, cut=CUT, share=1.0)
    before = [row for row in lines.collect() if not row["__after_cut"]]
    mixed = _mixed(lines, dataset, cut=CUT).collect()
    later = [row for row in mixed if row["__after_cut"]]
    assert sorted(map(str, before)) == sorted(str(row) for row in mixed if not row["__after_cut"])
    assert 0 < len(later) < lines.count() - len(before)
    assert all(row["moment"] > shop.at(75) for row in later)
    told = {row["price"] for row in lines.collect()}
    assert not {row["price"] for row in later} <= told  # scaled


def test_sql_that_looks_at_other_rows_is_named(spark: Any, raw_path: Path) -> None:
    total = "cast(sum(price * quantity) over (partition by user) as string)"
    found = changes(spark, with_column(raw_path, profile={"country": "country", "total": total}))
    assert list(found.changed) == ["users.total"]
    newest = "first(text) over (partition by item order by moment desc)"
    found = changes(spark, with_column(raw_path, text=newest))
    assert "items.text" in found.changed


def test_a_price_of_today_is_a_change_of_the_events_themselves(spark: Any, raw_path: Path) -> None:
    of_today = "first(price) over (partition by item order by moment desc)"
    found = changes(spark, with_column(raw_path, unit_price=of_today))
    assert {"events", "items.price", "users.spend"} <= set(found.changed)


def test_steps_of_ours_that_look_ahead_are_named(
    spark: Any, raw_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(user_steps, "_latest", lambda name: F.max_by(F.col(name), F.col("timestamp")))
        late = with_column(raw_path, profile={"invoice": "invoice"})
        assert set(changes(spark, late).changed) == {"users.invoice"}
    with monkeypatch.context() as patch:
        plain = item_steps.facts_at_cuts
        patch.setattr(item_steps, "POPULARITY_DAYS", 0)
        patch.setattr(item_steps, "facts_at_cuts", lambda *given: _without_end(plain(*given)))
        assert set(changes(spark, shop.dataset(raw_path)).changed) == {"items.popularity"}


def _without_end(facts: Any) -> Any:
    return facts.withColumn("is_recent", F.col("timestamp") > F.col("valid_from"))
