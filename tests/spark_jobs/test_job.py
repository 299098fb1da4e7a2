"""The whole run on a shop worked out by hand: what is published, refused, and safe from the future."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from recsys.schema import Column, FeedbackTable, Impression, InputError, Response, Split, Table
from spark_jobs import job
from spark_jobs.faults import explained
from spark_jobs.features.cuts import Cuts
from spark_jobs.features.vocabulary import PriorFit
from spark_jobs.gate import QualityError
from spark_jobs.metadata import examples_hash
from spark_jobs.previous import prior_fit
from spark_jobs.quality import FAILED_PAGE
from spark_jobs.settings import EventColumns, SplitSettings
from tests.spark_jobs import shop

VIEWS = EventColumns(user_id="user", item_id="item", timestamp="moment", event_type="'purchase'")
TEST_CUT, VALIDATION_CUT, NOW = shop.seconds(90), shop.seconds(75), shop.seconds(119.75)


def rows(version: Path, table: str) -> list[dict[str, Any]]:
    return pq.read_table(version / table).to_pylist()


def key_of(user: str) -> str:
    return hmac.new(b"recsys-demo-key-not-secret", user.encode(), hashlib.sha256).hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shop")


@pytest.fixture(scope="module")
def lines() -> list[shop.Line]:
    dirt = [
        shop.line(None, "A", 3),
        shop.line("u1", None, 3),
        shop.line("u1", "POST", 3),
        shop.line("u1", "A", 3, quantity=0),
        shop.line("u1", "A", 3, price=0.0),
        shop.line("u3", "C", 1, quantity=-5, invoice="C9"),
        shop.line("u1", "A", None),
    ]
    twice = shop.regular_lines()[0]
    return [*shop.regular_lines(), twice, *dirt]


@pytest.fixture(scope="module")
def version(spark: Any, folder: Path, lines: list[shop.Line]) -> Path:
    path = shop.write(lines, folder / "raw.parquet")
    return job.build(shop.settings(path, folder), spark)


def test_every_row_is_accounted_for(version: Path, lines: list[shop.Line]) -> None:
    counts = json.loads((version / Table.METADATA).read_text())["row_counts"]
    assert counts["rows_in"] == len(lines) == 62
    assert (counts["rows_kept"], counts["quarantined"], counts["duplicates"]) == (54, 7, 1)
    reasons = json.loads((version / Table.QUALITY).read_text())["quarantined_by_reason"]
    assert reasons == dict.fromkeys(
        [
            "bad_timestamp",
            "missing_item",
            "missing_user",
            "non_positive_price",
            "not_an_item",
            "return_without_purchase",
            "zero_quantity",
        ],
        1,
    )
    rejected = rows(version, Table.QUARANTINE)
    assert len(rejected) == 7
    assert {row[Column.USER_KEY] for row in rejected} == {None, key_of("u1"), key_of("u3")}


def test_no_raw_user_id_is_published(version: Path) -> None:
    for table in (Table.HISTORIES, Table.USER_FEATURES, Table.QUARANTINE):
        for row in rows(version, table):
            assert not {"u1", "u2", "u3", "late"} & {str(value) for value in row.values()}


def test_histories_hold_each_event_once_in_order(version: Path) -> None:
    found = [row for row in rows(version, Table.HISTORIES) if row[Column.USER_KEY] == key_of("u1")]
    found.sort(key=lambda row: row[Column.WINDOW_INDEX])
    assert [row[Column.NUM_EVENTS] for row in found] == [8, 8, 2]
    timestamps = [t for row in found for t in row[Column.TIMESTAMP]]
    values = [v for row in found for v in row[Column.VALUE]]
    types = [t for row in found for t in row[Column.EVENT_TYPE]]
    returned_at = [t for row in found for t in row[Column.RETURNED_AT]]
    # u1 buys on days 0.5, 7.5, ...: 2.00 in even weeks, 4.00 in odd ones; A on weeks 0, 3, 6, 9, ...
    days = sorted([7 * week + 0.5 for week in range(17)] + [64])
    assert timestamps == [shop.seconds(day) for day in days]
    # The piece returned on day 64 belongs to week 9 (day 63.5), the latest purchase of A: two for 4.00.
    place = days.index(64)
    assert values[place] == -2.0
    assert types == [2 if day == 64 else 1 for day in days]
    assert values[:2] == [2.0, 4.0]
    assert set(returned_at) == {0}


def test_item_and_user_indices_follow_first_sight(version: Path) -> None:
    items = {row[Column.ITEM_ID]: row[Column.ITEM_INDEX] for row in rows(version, Table.ITEM_FEATURES)}
    assert items == {"A": 1, "B": 2, "C": 3, "D": 4}
    users = {row[Column.USER_KEY]: row[Column.USER_INDEX] for row in rows(version, Table.HISTORIES)}
    assert users == {key_of("u1"): 1, key_of("u2"): 2, key_of("u3"): 3, key_of("late"): 4}


def test_item_snapshots_show_what_was_known(version: Path) -> None:
    at = {(r[Column.ITEM_ID], r[Column.VALID_FROM]): r for r in rows(version, Table.ITEM_FEATURES)}
    assert set(at) == {(item, cut) for item in "ABCD" for cut in (VALIDATION_CUT, TEST_CUT, NOW)}
    new = at["D", TEST_CUT]
    assert not new[Column.IN_TRAINING]
    assert new[Column.POPULARITY] == 0
    assert (new[Column.KNOWN_AT], new[Column.PRICE]) == (shop.seconds(95), 9.0)
    # A in (60, 90]: u1 week 9 (63.5) and week 12 (84.5), u2 week 11 (78.5), u3 week 10 (72.5)
    assert at["A", TEST_CUT][Column.POPULARITY] == 4
    assert at["A", TEST_CUT][Column.IN_TRAINING]


def test_examples_include_users_first_seen_in_the_window(version: Path) -> None:
    at = {(r[Column.USER_INDEX], r[Column.CUT]): r for r in rows(version, Table.EXAMPLES)}
    assert at[4, TEST_CUT][Column.PREFIX_LENGTH] == 0
    assert at[4, TEST_CUT][Column.SPLIT] == Split.TEST
    assert (4, VALIDATION_CUT) not in at
    # u1 by day 90: weeks 0 to 12 and the return
    assert at[1, TEST_CUT][Column.PREFIX_LENGTH] == 14
    assert {r[Column.CUT] for r in at.values() if r[Column.SPLIT] == Split.TRAIN} == {
        shop.seconds(day) for day in (30, 45, 60)
    }


def test_the_end_of_the_data_is_a_cut_that_nothing_follows(spark: Any, version: Path) -> None:
    examples = [row for row in rows(version, Table.EXAMPLES) if row[Column.SPLIT] == Split.NOW]
    assert {row[Column.CUT] for row in examples} == {NOW}
    # u1: 17 weeks and a return; u2: 17 weeks and one line of D; u3: 17 weeks; late: one line
    assert {row[Column.USER_INDEX]: row[Column.PREFIX_LENGTH] for row in examples} == {
        1: 18,
        2: 18,
        3: 17,
        4: 1,
    }
    users = {
        r[Column.USER_INDEX]: r for r in rows(version, Table.USER_FEATURES) if r[Column.VALID_FROM] == NOW
    }
    assert set(users) == {1, 2, 3, 4}
    assert (users[4]["recency_days"], users[4]["spend"]) == (24.75, 36.0)
    assert NOW not in {row[Column.CUT] for row in rows(version, Table.VALUE_TARGETS)}
    items = {r[Column.ITEM_ID]: r for r in rows(version, Table.ITEM_FEATURES) if r[Column.VALID_FROM] == NOW}
    assert all(row[Column.IN_TRAINING] for row in items.values())
    assert (items["D"][Column.POPULARITY], items["D"][Column.KNOWN_AT]) == (2, NOW)
    frame = spark.read.parquet(str(version / Table.EXAMPLES))
    stored = json.loads((version / Table.METADATA).read_text())["split"]["hash"]
    assert examples_hash(frame.where("split != 'now'")) == examples_hash(frame) == stored
    assert examples_hash(frame.where("split != 'test'")) != stored


def test_value_targets_by_hand(version: Path) -> None:
    at = {(r[Column.USER_INDEX], r[Column.CUT]): r for r in rows(version, Table.VALUE_TARGETS)}
    u1 = at[1, TEST_CUT]
    # weeks 13 (91.5, odd, 4.00), 14 (98.5, 2.00), 15 (105.5, 4.00), 16 (112.5, 2.00)
    assert u1[Column.SPEND] == [4.0, 12.0]
    assert u1[Column.NUM_PURCHASES] == [1, 4]
    assert u1[Column.NUM_ACTIVE_DAYS] == [1, 4]
    assert u1[Column.NEXT_ACTIVE_DAYS] == pytest.approx(1.5)
    assert u1[Column.OBSERVED_DAYS] == pytest.approx(29.75)
    # cut on day 60, u1: week 9 (63.5) two for 4.00, one of them back on day 64
    assert at[1, shop.seconds(60)][Column.SPEND][0] == 2.0


def test_metadata_tells_the_protocol(version: Path) -> None:
    metadata = json.loads((version / Table.METADATA).read_text())
    assert metadata["split"]["cuts"] == {
        "train": [shop.seconds(day) for day in (30, 45, 60)],
        "validation": VALIDATION_CUT,
        "test": TEST_CUT,
        "now": NOW,
    }
    assert metadata["num_items"] == 4
    assert metadata["item_capacity"] == 5
    assert metadata["pseudonym"] == {"key_version": "demo-1", "demo": True}
    assert metadata["date_range"] == [shop.seconds(0.5), shop.seconds(119.75)]
    assert "demo-key" not in json.dumps(metadata)


def test_vocabularies_stand_beside_the_metadata(version: Path) -> None:
    metadata = json.loads((version / Table.METADATA).read_text())
    words = json.loads((version / Table.VOCABULARIES).read_text())
    assert "vocabularies" not in metadata
    assert len(words["tokens"]) == metadata["num_tokens"]
    # by the validation cut the texts are RED A MUG, RED B MUG and RED C MUG; all live in the UK
    assert words["tokens"] == ["mug", "red", "a", "b", "c"]
    assert words["category"] == ["mug"]
    assert words["profile_fields"] == {"country": ["UK"]}


def known_at_cut(version: Path, cut: int) -> list[Any]:
    """Everything the tables say of the time up to `cut`, sorted."""
    items = [
        r for r in rows(version, Table.ITEM_FEATURES) if r[Column.VALID_FROM] == cut and r[Column.IN_TRAINING]
    ]
    users = [r for r in rows(version, Table.USER_FEATURES) if r[Column.VALID_FROM] == cut]
    examples = [r for r in rows(version, Table.EXAMPLES) if r[Column.CUT] == cut and r[Column.PREFIX_LENGTH]]
    past = [
        (row[Column.USER_KEY], item, kind, timestamp, value, returned_at if returned_at <= cut else 0)
        for row in rows(version, Table.HISTORIES)
        for item, kind, timestamp, value, returned_at in zip(
            row[Column.ITEM_INDEX],
            row[Column.EVENT_TYPE],
            row[Column.TIMESTAMP],
            row[Column.VALUE],
            row[Column.RETURNED_AT],
            strict=True,
        )
        if timestamp <= cut
    ]
    return [sorted(map(repr, part)) for part in (items, users, examples, past)]


def test_nothing_after_the_cut_changes_what_was_known_at_it(
    spark: Any, tmp_path: Path, version: Path, lines: list[shop.Line]
) -> None:
    after = [
        shop.line("u1", "A", 91, quantity=50, price=99.0, text="WHOLLY OTHER TEXT", country="DE"),
        shop.line("u2", "B", 92, quantity=-2, price=3.0, invoice="C7"),  # bought on day 64.5
        shop.line("new", "E", 93, text="NEW THING"),
        shop.line("u2", "B", 106),  # so that the log pauses no longer than it may
        shop.line("u2", "B", 119, price=0.5),
    ]
    before = [line for line in lines if line["moment"] is None or line["moment"] <= shop.at(90)]
    path = shop.write([*before, *after], tmp_path / "raw.parquet")
    changed = job.build(shop.settings(path, tmp_path), spark)
    for cut in (VALIDATION_CUT, TEST_CUT):
        assert known_at_cut(changed, cut) == known_at_cut(version, cut)


def test_indices_survive_the_next_run_and_feedback_joins_once(
    spark: Any, tmp_path: Path, lines: list[shop.Line]
) -> None:
    settings = shop.settings(shop.write(lines, tmp_path / "raw.parquet"), tmp_path)
    first = job.build(settings, spark)
    # An earlier line by a new user for a new item: by first sight both would come first.
    early = shop.line("early", "0", 0.1, invoice="E")
    without_d = [line for line in lines if line["item"] != "D"]
    shop.write([early, *without_d], tmp_path / "raw.parquet")
    outcome = {
        "outcome_id": "o1",
        "user_key": key_of("u1"),
        "item_id": "Z",
        "event_type": "purchase",
        "timestamp": shop.seconds(118),
        "value": 7.5,
        "slate_id": None,
    }
    for name in ("one", "two"):
        write_outcomes([outcome], tmp_path / "feedback" / "shop" / "outcomes" / f"{name}.parquet")
    second = job.build(settings, spark)

    items = {row[Column.ITEM_ID]: row[Column.ITEM_INDEX] for row in rows(second, Table.ITEM_FEATURES)}
    assert items == {"A": 1, "B": 2, "C": 3, "D": 4, "0": 5, "Z": 6}
    users = {row[Column.USER_KEY]: row[Column.USER_INDEX] for row in rows(second, Table.HISTORIES)}
    # `late` bought nothing but D and is gone; its index is not given to anyone else
    assert users == {key_of("u1"): 1, key_of("u2"): 2, key_of("u3"): 3, key_of("early"): 5}
    metadata = json.loads((second / Table.METADATA).read_text())
    assert metadata["num_users"] == 5
    assert metadata["row_counts"]["feedback_outcomes"] == 1
    sources = [Path(source["path"]).name for source in metadata["sources"]]
    assert sources == ["raw.parquet", "one.parquet", "two.parquet"]
    last = max(
        (row for row in rows(second, Table.HISTORIES) if row[Column.USER_INDEX] == 1),
        key=lambda row: row[Column.WINDOW_INDEX],
    )
    assert (last[Column.ITEM_INDEX][-1], last[Column.VALUE][-1]) == (6, 7.5)
    latest = tmp_path / "features" / "shop" / Table.LATEST
    assert latest.is_symlink()
    assert latest.resolve() == second != first
    assert first.exists()


def test_an_outcome_that_the_log_tells_too_counts_once(
    spark: Any, tmp_path: Path, version: Path, lines: list[shop.Line]
) -> None:
    # u1 buys B on day 112.5 (week 16) for 2.00
    bought = {
        "outcome_id": "o1",
        "user_key": key_of("u1"),
        "item_id": "B",
        "event_type": "purchase",
        "timestamp": shop.seconds(112.5),
        "value": 2.0,
        "slate_id": "s",
    }
    feedback = tmp_path / "feedback" / "shop"
    write_outcomes([bought], feedback / FeedbackTable.OUTCOMES / "one.parquet")
    shown = dict.fromkeys(Impression.ALL, None) | {
        "slate_id": "s",
        "slot": 1,
        "user_key": key_of("u1"),
        "item_id": "B",
        "timestamp": shop.seconds(112),
    }
    write_impressions([shown], feedback / FeedbackTable.IMPRESSIONS / "one.parquet")
    bounds = {"max_duplicate_share": 1.5 / 63}  # the line that the shop itself wrote twice
    path = shop.write(lines, tmp_path / "raw.parquet")
    second = job.build(shop.settings(path, tmp_path, quality=bounds), spark)
    counts = json.loads((second / Table.METADATA).read_text())["row_counts"]
    assert [counts[name] for name in ("rows_in", "rows_kept", "quarantined", "duplicates")] == [63, 54, 7, 2]
    assert [counts[name] for name in ("outcomes_in_log", "outcomes_of_an_impression")] == [1, 1]
    for table in (Table.HISTORIES, Table.VALUE_TARGETS, Table.ITEM_FEATURES):
        assert sorted(map(repr, rows(second, table))) == sorted(map(repr, rows(version, table)))
    (response,) = rows(second, Table.IMPRESSIONS)
    assert (response[Response.NUM_OUTCOMES], response[Response.VALUE]) == (1, 2.0)

    shop.write([], path)
    with pytest.raises(InputError, match=r"raw\.parquet is an empty table"):
        job.build(shop.settings(path, tmp_path), spark)


def test_a_fit_on_later_events_is_not_gone_on_from(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = json.loads((version / Table.METADATA).read_text())
    fitted = json.loads((version / Table.VOCABULARIES).read_text())
    at = Cuts(train=(), validation=VALIDATION_CUT, test=TEST_CUT, now=NOW)
    assert list(prior_fit((version, metadata), at).tokens) == fitted["tokens"] != []
    assert prior_fit((version, metadata), at).log_price == metadata["scalers"]["log_price"]
    earlier = dataclasses.replace(at, validation=VALIDATION_CUT - 1)
    assert prior_fit((version, metadata), earlier) == PriorFit()
    assert "begin anew" in capsys.readouterr().err
    assert prior_fit(None, at) == PriorFit()


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, ""),
        ({"split": SplitSettings(kind="leave_one_out")}, "note: data set shop: leave_one_out has no cut in"),
        ({"columns": VIEWS}, "note: data set shop: no money, so no spend; retention targets stay"),
    ],
)
def test_the_targets_a_data_set_cannot_have_are_told(
    changes: dict[str, Any], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job._note_missing_targets(shop.dataset(Path("raw.parquet"), **changes))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == bool(shown)
    assert "".join(lines).startswith(shown)


def test_the_version_tells_what_went_in(folder: Path) -> None:
    settings, now = shop.settings(folder / "raw.parquet", folder), datetime(2024, 5, 1, tzinfo=UTC)
    plain = job._version(now, settings, [{"sha256": "a"}], key_version="1")
    assert plain.startswith("20240501T000000Z-")
    assert plain == job._version(now, settings, [{"sha256": "a"}], key_version="1")
    others = [
        job._version(now, settings, [{"sha256": "a"}], key_version="2"),
        job._version(now, settings, [{"sha256": "a"}, {"sha256": "outcomes"}], key_version="1"),
    ]
    assert len({plain, *others}) == 3


def write_outcomes(outcomes: list[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    text, whole = pa.string(), pa.int64()
    kinds = [text, text, text, text, whole, pa.float64(), text]
    metadata = {FeedbackTable.KEY_VERSION: b"demo-1"}
    schema = pa.schema(list(zip(outcomes[0], kinds, strict=True)), metadata=metadata)
    pq.write_table(pa.Table.from_pylist(outcomes, schema=schema), path)


def write_impressions(impressions: list[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    whole = (Impression.SLOT, Impression.TIMESTAMP)
    schema = pa.schema(
        [(name, pa.int64() if name in whole else pa.string()) for name in impressions[0]],
        metadata={FeedbackTable.KEY_VERSION: b"demo-1"},
    )
    pq.write_table(pa.Table.from_pylist(impressions, schema=schema), path)


def published(folder: Path) -> list[str]:
    root = folder / "features" / "shop"
    return sorted(path.name for path in root.iterdir()) if root.exists() else []


def test_a_failed_gate_names_the_check_and_publishes_nothing(
    spark: Any, tmp_path: Path, lines: list[shop.Line]
) -> None:
    path = shop.write(lines, tmp_path / "raw.parquet")
    with pytest.raises(QualityError, match=r"min_rows: 54, minimum 1000"):
        job.build(shop.settings(path, tmp_path, quality={"min_rows": 1000}), spark)
    assert published(tmp_path) == [FAILED_PAGE]


def test_a_failure_while_writing_leaves_the_old_version(
    spark: Any, folder: Path, version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = published(folder)

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(job, "write_document", full_disk)
    with pytest.raises(OSError, match="No space left"):
        job.build(shop.settings(folder / "raw.parquet", folder), spark)
    assert published(folder) == before
    assert (folder / "features" / "shop" / Table.LATEST).resolve() == version


def test_a_full_disk_inside_spark_is_an_os_error(folder: Path) -> None:
    from pyspark.errors import PySparkException

    settings = shop.settings(folder / "raw.parquet", folder)
    fault = explained(PySparkException("Job aborted: java.io.IOException: No space left on device"), settings)
    assert isinstance(fault, OSError)
    assert fault.errno == 28


def test_an_older_schema_is_refused(spark: Any, tmp_path: Path) -> None:
    old = tmp_path / "features" / "shop" / "old"
    old.mkdir(parents=True)
    (old / Table.METADATA).write_text('{"schema_version": 0}')
    (old.parent / Table.LATEST).symlink_to("old")
    path = shop.write(shop.regular_lines(), tmp_path / "raw.parquet")
    with pytest.raises(InputError, match="schema version 0"):
        job.build(shop.settings(path, tmp_path), spark)
