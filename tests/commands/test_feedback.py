"""`recsys feedback`, as typed: files in, a log of pseudonyms out, one line for what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.commands.feedback import main
from recsys.policy.impressions import IMPRESSION_SCHEMA
from recsys.policy.origin import with_origin
from recsys.schema import Column, FeedbackTable, Impression, Outcome, Table

HEADER = "outcome_id,user_id,item_id,event_type,timestamp,value,slate_id\n"
ROWS = "o1,12346,85123A,purchase,1300000000,15.3,s1\no2,Zoë,85123A,view,1300000060,,\n"
# printf '%s' 12346 | openssl dgst -sha256 -hmac 'salt and pepper and mace', and the same for Zoë
ANN = "682c8f2c546c693d057c72c2577afdc3fb82c38c7a757a9c0d092acef28757af"
ZOE = "e0c8dc98b3b3828f1c2b589d5d8b4d004fb8d2a8169414b8a90961c9dda8a22b"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a data set `toy` and a key."""
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    (tmp_path / "conf" / "dataset" / "toy.yaml").write_text("name: toy\nevent_types: [view, purchase]\n")
    (tmp_path / "outcomes.csv").write_text(HEADER + ROWS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECSYS_HMAC_KEY", "salt and pepper and mace")
    monkeypatch.delenv("RECSYS_HMAC_KEY_VERSION", raising=False)
    return tmp_path


def feedback(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
    monkeypatch.setattr(sys, "argv", ["feedback", "--config-dir", "conf", "dataset=toy", *overrides])
    main()


def test_nothing_is_taken_in_while_the_key_is_being_changed(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place / "features" / "toy" / "rotating"
    folder.mkdir(parents=True)
    (folder / "keys.json").write_text(json.dumps({"before": "a", "after": "b", "map": "1"}))
    with pytest.raises(SystemExit):
        feedback(monkeypatch, "outcomes=outcomes.csv")
    assert "from version 'a' to 'b' and that has not ended; let job=rotate end" in capsys.readouterr().err
    assert log_files(place) == []


def log_files(place: Path, table: str = FeedbackTable.OUTCOMES) -> list[Path]:
    return sorted((place / "feedback" / "toy" / table).glob("*.parquet"))


def write_impressions(path: Path, user_key: str, *, dataset: str = "toy") -> None:
    row = dict.fromkeys(Impression.ALL, "x") | {
        Impression.USER_KEY: user_key,
        Impression.ITEM_INDEX: 1,
        Impression.SLOT: 1,
        Impression.SCORE: 0.5,
        Impression.TEMPERATURE: 1.0,
        Impression.PROPENSITY: 0.5,
        Impression.IS_DETERMINISTIC: False,
        Impression.TIMESTAMP: 1_300_000_000,
    }
    table = pa.Table.from_pylist([row], schema=IMPRESSION_SCHEMA)
    pq.write_table(with_origin(table, dataset), path)


def test_outcomes_become_a_log_of_pseudonyms(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feedback(monkeypatch, "outcomes=outcomes.csv")
    (path,) = log_files(place)
    table = pq.read_table(path)
    assert tuple(table.schema.names) == Outcome.LOG
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        ("o1", ANN, "85123A", "purchase", 1_300_000_000, 15.3, "s1"),
        ("o2", ZOE, "85123A", "view", 1_300_000_060, None, None),
    ]
    assert b"12346" not in path.read_bytes()
    assert capsys.readouterr().out.startswith("outcomes: 2 new, 0 already there; -> feedback/toy/outcomes/")


def test_the_same_file_twice_changes_nothing_and_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feedback(monkeypatch, "outcomes=outcomes.csv")
    before = [(path.name, path.stat().st_mtime_ns) for path in log_files(place)]
    capsys.readouterr()
    feedback(monkeypatch, "outcomes=outcomes.csv")
    assert capsys.readouterr().out == "outcomes: 0 new, 2 already there; nothing changed\n"
    assert [(path.name, path.stat().st_mtime_ns) for path in log_files(place)] == before


def test_impressions_are_appended_once_by_slate_and_slot(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_impressions(place / "impressions.parquet", ANN)
    for _ in range(2):
        feedback(monkeypatch, "impressions=impressions.parquet", "outcomes=outcomes.csv")
    (path,) = log_files(place, FeedbackTable.IMPRESSIONS)
    assert pq.read_table(path).equals(pq.read_table("impressions.parquet"))
    assert len(log_files(place)) == 1


def test_nothing_but_the_log_is_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feedback(monkeypatch, "outcomes=outcomes.csv")
    assert sorted(path.name for path in place.iterdir()) == ["conf", "feedback", "outcomes.csv"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER.replace("user_id", "user") + ROWS, "outcomes.csv has no column 'user_id'"),
        (HEADER + ROWS.replace("view", "stare"), "event_type 'stare' in row 2 is unknown to this data set"),
        (HEADER + ROWS.replace("12346", ""), "column 'user_id' is empty in row 1"),
        (HEADER + ROWS.replace("1300000060", "1300000060000"), "probably milliseconds; divide by 1000"),
        (
            HEADER + ROWS.replace("1300000060", "4000000000"),
            "timestamp 4000000000 in row 2 lies in the future",
        ),
        (HEADER + ROWS.replace("1300000060", "-5"), "timestamp -5 in row 2 must be Unix seconds above 0"),
        (HEADER + ROWS.replace("15.3", "nan"), "value nan in row 1 must be finite"),
        (HEADER + ROWS.replace("15.3", "much"), "'much'"),
        (HEADER + ROWS.replace("o2", "o1"), "outcome_id 'o1' comes twice"),
        (HEADER, "outcomes.csv has no rows"),
    ],
)
def test_a_file_that_does_not_pass_is_one_line_and_no_log(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: str,
    message: str,
) -> None:
    (place / "outcomes.csv").write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit) as caught:
        feedback(monkeypatch, "outcomes=outcomes.csv")
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert log_files(place) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), "nothing was handed in; set outcomes=FILE"),
        (("outcomes=nowhere.csv",), "nowhere.csv is not a file"),
        (("outcoms=outcomes.csv",), "outcoms"),
    ],
)
def test_a_command_line_that_does_not_fit_is_one_line(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overrides: tuple[str, ...],
    message: str,
) -> None:
    with pytest.raises(SystemExit):
        feedback(monkeypatch, *overrides)
    assert message in capsys.readouterr().err
    assert not (place / "feedback").exists()


def test_a_raw_id_in_the_impressions_stops_both_files(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_impressions(place / "impressions.parquet", "12346")
    with pytest.raises(SystemExit):
        feedback(monkeypatch, "impressions=impressions.parquet", "outcomes=outcomes.csv")
    assert "user_key '12346' in row 1 is no pseudonym" in capsys.readouterr().err
    assert not (place / "feedback").exists()


def test_the_key_must_be_the_one_of_the_feature_tables(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = place / "features" / "toy" / "latest" / "metadata.json"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(json.dumps({"pseudonym": {"key_version": "demo-1"}}))
    with pytest.raises(SystemExit):
        feedback(monkeypatch, "outcomes=outcomes.csv")
    assert "made under key version 'demo-1'" in capsys.readouterr().err
    monkeypatch.delenv("RECSYS_HMAC_KEY")
    feedback(monkeypatch, "outcomes=outcomes.csv")
    assert "the demo key protects nobody" in capsys.readouterr().err


def refusal(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *overrides: str
) -> str:
    """What is said, on one line, of a file that leaves no log."""
    with pytest.raises(SystemExit):
        feedback(monkeypatch, *overrides)
    assert not (place / "feedback").exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_impressions_of_another_data_set_are_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_impressions(place / "impressions.parquet", ANN, dataset="books")
    error = refusal(place, monkeypatch, capsys, "impressions=impressions.parquet", "outcomes=outcomes.csv")
    assert "holds impressions of data set books, not of toy; hand it in with dataset=books" in error


@pytest.mark.parametrize(
    ("user_key", "item_id", "what"),
    [(ZOE, "x", "users"), (ANN, "y", "items"), (ANN, "x", None)],
)
def test_impressions_that_the_newest_tables_know_nothing_of_are_refused(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    user_key: str,
    item_id: str,
    what: str | None,
) -> None:
    write_impressions(place / "impressions.parquet", ANN)
    tables = place / "features" / "toy" / "latest"
    for folder, column, value in (
        (Table.HISTORIES, Column.USER_KEY, user_key),
        (Table.ITEM_FEATURES, Column.ITEM_ID, item_id),
    ):
        (tables / folder).mkdir(parents=True)
        pq.write_table(pa.table({column: [value]}), tables / folder / "part-0.parquet")
    if what is None:
        feedback(monkeypatch, "impressions=impressions.parquet")
        assert len(log_files(place, FeedbackTable.IMPRESSIONS)) == 1
    else:
        error = refusal(place, monkeypatch, capsys, "impressions=impressions.parquet")
        assert f"impressions.parquet: none of its {what} is known to features/toy/latest" in error
