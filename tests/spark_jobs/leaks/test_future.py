"""Another future changes nothing at the cut, unless the data set's SQL or a step of ours looks ahead."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from recsys.pseudonym import Key
from spark_jobs.features import items as item_steps
from spark_jobs.features import users as user_steps
from spark_jobs.leaks.future import FutureChanges, _mixed, _sampled, future_changes
from spark_jobs.settings import Dataset, Sensitive
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


def changes(spark: Any, dataset: Dataset, *, share: float = 1.0, cut: int = CUT) -> FutureChanges:
    raw = read_events(spark, dataset)
    return future_changes(raw, dataset, cut=cut, now=shop.seconds(130), key=KEY, share=share)


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


NEXT = "lead({}) over (partition by user order by moment)"


@pytest.mark.parametrize(
    "ahead",
    [
        # a thousandth, since more than four hours count as four
        {"dwell_s": f"({NEXT.format('unix_timestamp(moment)')} - unix_timestamp(moment)) / 1000"},
        {"query": NEXT.format("invoice")},
    ],
    ids=["dwell_s", "query"],
)
def test_a_dwell_or_query_of_the_next_line_is_a_change_of_the_events(
    spark: Any, raw_path: Path, ahead: dict[str, str]
) -> None:
    assert set(changes(spark, with_column(raw_path, **ahead)).changed) == {"events"}


def test_a_dwell_and_a_query_of_the_line_itself_are_none(spark: Any, raw_path: Path) -> None:
    assert changes(spark, with_column(raw_path, dwell_s="price", query="text")).changed == {}


@pytest.fixture(scope="module")
def hours_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lines in the hours after the cut, with day and clock apart."""
    hours = (75.1, 75.3, 75.6, 75.9, 76.4, 77.8)
    lines = shop.regular_lines() + [
        shop.line(user, "A", day, invoice=f"{user}-{day}") for user in ("u1", "u2", "u3") for day in hours
    ]
    path = tmp_path_factory.mktemp("hours") / "raw.parquet"
    rows = [
        {**row, "day": f"{row['moment']:%Y-%m-%d}", "clock": f"{row['moment']:%H:%M}"}
        for row in lines
        if row["moment"] is not None
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_a_coarse_time_decides_what_lies_after_the_cut(spark: Any, hours_path: Path) -> None:
    # lines of day 75.1 to 75.9 count as those of day 75, the cut itself
    by_day = Sensitive(coarsen={"moment": "date_trunc('DAY', moment)"})
    assert changes(spark, shop.dataset(hours_path, sensitive=by_day)).changed == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("stamp", "to_timestamp(concat(day, ' ', clock))"),
        ("moment", "moment - interval 1 day"),  # takes the raw column's place
    ],
)
def test_a_computed_time_is_that_of_the_mixed_parts(
    spark: Any, hours_path: Path, name: str, text: str
) -> None:
    plain = shop.dataset(hours_path)
    dataset = dataclasses.replace(
        plain,
        events=dataclasses.replace(plain.events, computed={name: text}),
        columns=dataclasses.replace(plain.columns, timestamp=name),
    )
    for cut in (shop.seconds(75.5), shop.seconds(76.2)):
        assert changes(spark, dataset, cut=cut).changed == {}


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
    return dataclasses.replace(facts, recent={cut: F.col("timestamp") > cut for cut in facts.recent})
