"""Days appended one by one, and a full run that plays them again: the same content, and no index moves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from recsys.pseudonym import load_key, pseudonym
from recsys.schema import Column, FeedbackTable, InputError, Table
from spark_jobs import job
from spark_jobs.erase import erase
from spark_jobs.gate import QualityError
from spark_jobs.settings import JobSettings
from tests.spark_jobs import shop
from tests.spark_jobs.content import content, rows_hash
from tests.spark_jobs.test_job import write_outcomes

FIRST, SECOND, THIRD = "day 1.parquet", "day 2.parquet", "day 3.parquet"


def settings(folder: Path, mode: str = "incremental", **changes: Any) -> JobSettings:
    plain = shop.settings(folder / "log", folder, **changes)
    return dataclasses.replace(plain, mode=mode)


def days() -> dict[str, list[shop.Line]]:
    """What came in when. The second day tells late of the first weeks; the third takes something back."""
    lines = shop.regular_lines()
    early_orphan = shop.line("u3", "D", 20, quantity=-1, price=9.0, invoice="C7")
    first = [line for line in lines if line["moment"] < shop.at(100)]
    late = [
        shop.line("early", "0", 0.1, invoice="E"),  # by first sight both would come first
        shop.line("u3", "D", 19, price=9.0, invoice="late"),  # what C7 has sent back
        first[0],  # handed in twice
        shop.line("u1", "A", 10, price=0.0, invoice="free"),
        shop.line("u1", "A", None, invoice="when"),
    ]
    rest = [line for line in lines if line["moment"] >= shop.at(100)]
    correction = [shop.line("u2", "D", 120, quantity=-1, price=9.0, invoice="C8")]
    half = rest[: len(rest) // 2]
    return {FIRST: [*first, early_orphan], SECOND: [*late, *half], THIRD: [*rest, *correction]}


def bought(folder: Path) -> None:
    """An outcome of a new item, handed back between the first day and the second."""
    outcome = {
        "outcome_id": "o1",
        "user_key": pseudonym("u1", load_key()),
        "item_id": "Z",
        "event_type": "purchase",
        "timestamp": shop.seconds(99),
        "value": 7.5,
        "slate_id": None,
    }
    write_outcomes([outcome], folder / "feedback" / "shop" / FeedbackTable.OUTCOMES / "one.parquet")


@pytest.fixture(scope="module")
def chain(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A folder in which each day was appended when it came, and the versions."""
    folder, versions = tmp_path_factory.mktemp("chain"), []
    for name, lines in days().items():
        shop.write(lines, folder / "log" / name)
        if name == SECOND:
            bought(folder)
        versions.append(job.build(settings(folder), spark))
    return folder, versions


def counts(version: Path) -> dict[str, int]:
    return json.loads((version / Table.METADATA).read_text())["row_counts"]


def of(version: Path) -> tuple[int, ...]:
    return tuple(counts(version)[name] for name in ("rows_in", "rows_kept", "quarantined", "duplicates"))


def indices(version: Path) -> dict[str, dict[str, int]]:
    items = pq.read_table(version / Table.ITEM_FEATURES).to_pylist()
    users = pq.read_table(version / Table.HISTORIES).to_pylist()
    return {
        "items": {row[Column.ITEM_ID]: row[Column.ITEM_INDEX] for row in items},
        "users": {row[Column.USER_KEY]: row[Column.USER_INDEX] for row in users},
    }


def test_indices_are_given_out_by_batch_and_stay(chain: tuple[Path, list[Path]]) -> None:
    first, second, third = (indices(version) for version in chain[1])
    assert first["items"] == {"A": 1, "B": 2, "C": 3, "D": 4}
    # of the second batch "0" was sold on day 0.1 and Z on day 99
    assert second["items"] == third["items"] == first["items"] | {"0": 5, "Z": 6}
    keys = [pseudonym(user, load_key()) for user in ("u1", "u2", "u3", "late", "early")]
    assert first["users"] == dict(zip(keys[:4], range(1, 5), strict=True))
    assert second["users"] == third["users"] == dict(zip(keys, range(1, 6), strict=True))


def test_late_events_and_corrections_count(chain: tuple[Path, list[Path]]) -> None:
    first, second, third = chain[1]
    # 44 of the 51 weekly lines and two of the other three lie before day 100; C7 has no purchase yet
    assert of(first) == (47, 46, 1, 0)
    reasons = [row[Column.REASON] for row in pq.read_table(first / Table.QUARANTINE).to_pylist()]
    assert reasons == ["return_without_purchase"]
    # the line that it belongs to has come in: C7 is kept, two others are rejected
    reasons = [row[Column.REASON] for row in pq.read_table(second / Table.QUARANTINE).to_pylist()]
    assert sorted(reasons) == ["bad_timestamp", "non_positive_price"]
    # 5 late ones, half of the other 8 and an outcome; then all 8 and a return
    assert of(second) == (47 + 10, 46 + 1 + 2 + 1 + 4, 2, 1)
    assert of(third) == (57 + 9, 54 + 4 + 1, 2, 1 + 4)
    u2 = pseudonym("u2", load_key())
    values = [
        value
        for row in pq.read_table(third / Table.HISTORIES).to_pylist()
        if row[Column.USER_KEY] == u2
        for value in row[Column.VALUE]
    ]
    assert values.count(-9.0) == 1


def test_only_new_input_is_read(
    spark: Any, chain: tuple[Path, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The days before may be gone from the disk."""
    folder, (_, _, third) = chain
    for name in days():
        (folder / "log" / name).rename(tmp_path / name)
    try:
        shop.write([shop.line("u1", "A", 121, invoice="N")], folder / "log" / "day 4.parquet")
        fourth = job.build(settings(folder), spark)
        assert counts(fourth)["rows_in"] == counts(third)["rows_in"] + 1
        shared = {file.stat().st_ino for file in (third / Table.LINES).glob("*.parquet")}
        assert shared < {file.stat().st_ino for file in (fourth / Table.LINES).glob("*.parquet")}
    finally:
        (folder / "log" / "day 4.parquet").unlink()
        for name in days():
            (tmp_path / name).rename(folder / "log" / name)
        (folder / "features" / "shop" / Table.LATEST).unlink()
        (folder / "features" / "shop" / Table.LATEST).symlink_to(third.name)


@pytest.mark.slow
def test_a_full_run_plays_the_batches_again(
    spark: Any, chain: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder, versions = chain
    again = job.build(settings(folder, "full"), spark)
    assert "other indices" not in capsys.readouterr().err
    assert content(again) == content(versions[-1])
    words = [(version / Table.VOCABULARIES).read_text() for version in (versions[-1], again)]
    assert words[0] == words[1]
    ledgers = [json.loads((version / Table.LEDGER).read_text()) for version in (versions[-1], again)]
    assert ledgers[0] == ledgers[1]
    assert [len(batch["inputs"]) for batch in ledgers[0]["batches"]] == [1, 2, 1]
    assert not ledgers[1]["is_based"]
    assert counts(again) == counts(versions[-1])
    assert not (again / Table.LINES).exists()


@pytest.mark.slow
def test_appending_goes_on_after_a_full_run(spark: Any, tmp_path: Path) -> None:
    """Which leaves no lines: the next appending run plays all batches and leaves them."""
    days_of = days()
    for number, (name, lines) in enumerate(days_of.items()):
        shop.write(lines, tmp_path / "log" / name)
        version = job.build(settings(tmp_path, ("full", "incremental", "full")[number]), spark)
    assert json.loads((version / Table.LEDGER).read_text())["batches"][1]["number"] == 2
    second = sorted(path for path in version.parent.glob("2*") if (path / Table.LINES).is_dir())
    assert len(second) == 1
    assert len(pq.read_table(second[0] / Table.LINES)) == counts(second[0])["rows_kept"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "is in version .* already; there is nothing to append"),
        (
            {"tie_key": ["invoice"], "event_types": ["purchase", "return", "view"]},
            "are not those of its last version",
        ),
    ],
)
def test_what_cannot_be_appended(
    spark: Any, chain: tuple[Path, list[Path]], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        job.build(settings(chain[0], **change), spark)


def test_a_file_that_has_changed_is_named(spark: Any, chain: tuple[Path, list[Path]]) -> None:
    path = chain[0] / "log" / SECOND
    before = path.read_bytes()
    shop.write(days()[SECOND][:-1], path)
    try:
        with pytest.raises(InputError, match=r"day 2.parquet is another file than .* corrections in as"):
            job.build(settings(chain[0]), spark)
    finally:
        path.write_bytes(before)


def test_far_files_are_not_appended(spark: Any, tmp_path: Path) -> None:
    far = shop.settings(Path("s3a://bucket"), tmp_path)
    source = dataclasses.replace(far.dataset.events, path="s3a://bucket/log")
    far = dataclasses.replace(
        far, mode="incremental", dataset=dataclasses.replace(far.dataset, events=source)
    )
    with pytest.raises(InputError, match="must lie on this machine's file systems; name a column"):
        job.build(far, spark)


def test_a_bad_day_does_not_hide_among_good_ones(spark: Any, chain: tuple[Path, list[Path]]) -> None:
    bad = [shop.line(None, "A", 121, invoice=f"N{number}") for number in range(3)]
    path = shop.write([shop.line("u1", "A", 121), *bad], chain[0] / "log" / "day 4.parquet")
    try:
        with pytest.raises(QualityError, match=r"appended.max_share_by_reason.missing_user: 0.75"):
            job.build(settings(chain[0], quality={"max_share_by_reason": {"missing_user": 0.5}}), spark)
    finally:
        path.unlink()


@pytest.mark.slow
def test_the_erased_leave_the_kept_lines_and_do_not_come_back(spark: Any, tmp_path: Path) -> None:
    for name, lines in list(days().items())[:2]:
        shop.write(lines, tmp_path / "log" / name)
        version = job.build(settings(tmp_path), spark)
    key = pseudonym("u1", load_key())
    erasing = dataclasses.replace(settings(tmp_path, "full"), job="erase", erase_raw=True)
    done = erase(erasing, frozenset({"u1"}), spark)
    assert done.rows[f"tables/{Table.LINES}"] > 0
    known = indices(version)
    assert key not in known["users"]
    assert key not in pq.read_table(version / Table.LINES)[Column.USER_KEY].to_pylist()
    shop.write(days()[THIRD], tmp_path / "log" / THIRD)
    third = job.build(settings(tmp_path), spark)
    assert key not in indices(third)["users"]
    assert indices(third)["users"] == known["users"]
    again = job.build(settings(tmp_path, "full"), spark)
    assert content(again) == content(third)
    assert rows_hash(again / Table.HISTORIES) != rows_hash(version / Table.HISTORIES)
