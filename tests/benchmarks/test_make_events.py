"""The made log has the dirt it says, the same on every machine, and spark_jobs finds all of it again."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from benchmarks.make_events import write_log
from benchmarks.shop_log import BLOCK_ROWS, FIRST_SECOND, HOUR_S, LogConfig
from recsys.entry import conf_dir
from recsys.schema import SECONDS_PER_DAY, EventType, Table
from recsys.settings import read_settings
from spark_jobs import job
from spark_jobs.settings import JobSettings
from spark_jobs.steps.clean import Reason

ROWS = 2 * BLOCK_ROWS + 5_000
EARLIEST_MS, DAYS = 1000 * FIRST_SECOND, 180


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    folder = tmp_path_factory.mktemp("log")
    write_log(folder, LogConfig(rows=ROWS))
    return pq.read_table(folder / "events")


def share(condition: pa.ChunkedArray) -> float:
    return pc.sum(condition).as_py() / len(condition)


def millis(events: pa.Table) -> pa.ChunkedArray:
    return events["happened_at"].cast(pa.int64())


def malformed(events: pa.Table) -> pa.ChunkedArray:
    faults = [
        pc.is_null(events["user_id"]),
        pc.is_null(events["item_id"]),
        pc.is_null(events["happened_at"]),
        pc.fill_null(pc.less(millis(events), EARLIEST_MS), False),
        pc.fill_null(pc.less(events["unit_price"], 0), False),
        pc.fill_null(pc.equal(events["quantity"], 0), False),
        pc.invert(pc.is_in(events["event_type"], pa.array(EventType.BUILT_IN))),
    ]
    counts = [pc.sum(fault).as_py() for fault in faults]
    assert min(counts) > 0
    assert sum(counts) == pc.sum(_any(faults)).as_py()  # one fault a row
    return _any(faults)


def _any(conditions: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    found = conditions[0]
    for condition in conditions[1:]:
        found = pc.or_(found, condition)
    return found


def test_the_log_has_the_rows_and_the_dirt_that_were_asked(events: pa.Table) -> None:
    assert events.num_rows == ROWS
    assert share(malformed(events)) == pytest.approx(0.01, abs=1e-3)
    distinct = events.group_by(events.column_names).aggregate([]).num_rows
    assert 1 - distinct / ROWS == pytest.approx(0.02, abs=1e-3)
    assert share(pc.equal(events["event_type"], EventType.RETURN)) == pytest.approx(0.005, abs=5e-4)
    by_user = pc.value_counts(events["user_id"].drop_null())
    counts = dict(zip(by_user.field("values").to_pylist(), by_user.field("counts").to_pylist(), strict=True))
    assert counts["u0"] / ROWS == pytest.approx(0.01, abs=1e-3)


def test_every_event_type_tells_what_belongs_to_it(events: pa.Table) -> None:
    for name, told in (
        (EventType.VIEW, "dwell_s"),
        (EventType.SEARCH, "query"),
        (EventType.RATING, "stars"),
        (EventType.PURCHASE, "order_id"),
        (EventType.RETURN, "order_id"),
    ):
        column = events.filter(pc.equal(events["event_type"], name))[told]
        assert len(column) > column.null_count
        assert column.null_count / len(column) < 0.01  # a search may have lost its item
    assert EventType.CART in events["event_type"].to_pylist()


def test_few_users_make_much_of_it_and_evenings_and_saturdays_most(events: pa.Table) -> None:
    by_user = pc.value_counts(events["user_id"].drop_null()).field("counts").to_pylist()
    busiest = sorted(by_user, reverse=True)[1 : 1 + len(by_user) // 10]
    assert sum(busiest) > 0.3 * ROWS
    moment = pc.filter(events["happened_at"], pc.greater_equal(millis(events), EARLIEST_MS))
    assert share(pc.is_in(pc.hour(moment), pa.array(range(17, 22)))) > 1.5 * 5 / 24
    assert share(pc.equal(pc.day_of_week(moment), 5)) > 1.2 / 7


def test_returns_follow_a_purchase_of_the_same_item_by_the_same_user(events: pa.Table) -> None:
    rows = events.append_column("ms", millis(events)).to_pylist()
    bought = defaultdict(list)
    for row in rows:
        if row["event_type"] == EventType.PURCHASE:
            bought[row["user_id"], row["item_id"], row["order_id"], row["unit_price"]].append(row)
    returned = [row for row in rows if row["event_type"] == EventType.RETURN]
    assert returned
    for row in returned:
        purchases = bought[row["user_id"], row["item_id"], row["order_id"], row["unit_price"]]
        assert any(
            0 <= row["ms"] - purchase["ms"] <= 1000 * SECONDS_PER_DAY * 30
            and 1 <= row["quantity"] <= purchase["quantity"]
            for purchase in purchases
        )


def test_some_events_come_late_and_none_from_after_the_end(events: pa.Table) -> None:
    moment = [ms for ms in millis(events).to_pylist() if ms is not None and ms >= EARLIEST_MS]
    assert max(moment) < EARLIEST_MS + 1000 * DAYS * SECONDS_PER_DAY
    newest, late = 0, 0
    for ms in moment:
        late += ms < newest - 1000 * HOUR_S
        newest = max(newest, ms)
    assert 0.02 < late / ROWS < 0.06  # 3 % are sent late, and 2 % again, some hours after


def test_the_seed_alone_decides_the_rows(events: pa.Table, tmp_path: Path) -> None:
    write_log(tmp_path / "cut", LogConfig(rows=ROWS), blocks_per_file=1)
    assert len(list((tmp_path / "cut" / "events").iterdir())) == 3
    assert pq.read_table(tmp_path / "cut" / "events").equals(events)
    write_log(tmp_path / "other", LogConfig(rows=ROWS, seed=1))
    assert not pq.read_table(tmp_path / "other" / "events").equals(events)


@pytest.mark.slow
def test_spark_jobs_accounts_for_every_row_of_it(spark: Any, tmp_path: Path) -> None:
    conf = write_log(tmp_path / "log", LogConfig(rows=5_000))
    folders = [f"{name}_dir={tmp_path / name}" for name in ("features", "feedback")]
    searched = f"hydra.searchpath=[file://{conf}]"
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose("spark_jobs", overrides=["dataset=shop_log", searched, *folders])
    settings = read_settings(JobSettings, OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
    version = job.build(settings, spark)
    quality = json.loads((version / Table.QUALITY).read_text())
    events = pq.read_table(tmp_path / "log" / "events")
    distinct = events.group_by(events.column_names).aggregate([]).num_rows
    assert quality["row_counts"]["rows_in"] == 5_000
    assert quality["row_counts"]["duplicates"] == 5_000 - distinct
    assert quality["row_counts"]["quarantined"] == pc.sum(malformed(events)).as_py()
    assert quality["quarantined_by_reason"].keys() == {
        Reason.MISSING_USER,
        Reason.MISSING_ITEM,
        Reason.BAD_TIMESTAMP,
        Reason.UNKNOWN_EVENT_TYPE,
        Reason.ZERO_QUANTITY,
        Reason.NON_POSITIVE_PRICE,
    }
