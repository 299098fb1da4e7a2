"""People go out of every file, and do not come back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from recsys.disk import in_use
from recsys.policy.feedback_log import append_rows
from recsys.policy.impressions import IMPRESSION_KEY, IMPRESSION_SCHEMA
from recsys.pseudonym import load_key, pseudonym
from recsys.schema import Column, FeedbackTable, Impression, InputError, Recommendation, Table
from recsys.tombstones import AUDIT, TOMBSTONES, add_audit_line, checked_audit
from spark_jobs import job
from spark_jobs.erase import erase, read_people
from spark_jobs.settings import JobSettings, SourceTable
from tests.spark_jobs import shop

GONE, STAYS = "u1", "u2"


def settings(folder: Path, **changes: Any) -> JobSettings:
    plain = shop.settings(folder / "raw.parquet", folder)
    places = {
        name: str(folder / name.removesuffix("_dir")) for name in ("models_dir", "outputs_dir", "cache_dir")
    }
    return dataclasses.replace(plain, **(places | changes))


def impressions(key: str) -> pa.Table:
    filled = {
        field.name: pa.array([None], field.type).fill_null(
            {"int32": 1, "int64": 9, "bool": False}.get(str(field.type), 0.5)
        )
        if not pa.types.is_string(field.type)
        else pa.array([f"{field.name}-{key[:4]}"])
        for field in IMPRESSION_SCHEMA
    }
    filled[Impression.USER_KEY] = pa.array([key])
    filled[Impression.ITEM_ID] = pa.array(["A"])
    return pa.table(filled, schema=IMPRESSION_SCHEMA)


def hand_back(folder: Path, user: str) -> None:
    key = load_key()
    append_rows(
        table=impressions(pseudonym(user, key)),
        folder=folder / "feedback" / "shop" / FeedbackTable.IMPRESSIONS,
        key_columns=IMPRESSION_KEY,
        key_version=key.version,
        source="test",
    )


@pytest.fixture
def folder(tmp_path: Path, spark: Any) -> Path:
    """Everything that the commands leave of a shop: tables, feedback, recommendations, a bundle."""
    lines = [*shop.regular_lines(), shop.line(GONE, "A", 40, price=-3.0, invoice="bad")]
    shop.write(lines, tmp_path / "raw.parquet")
    key = load_key()
    for user in (GONE, STAYS):
        hand_back(tmp_path, user)
    version = job.build(settings(tmp_path), spark)
    shown = pa.table(
        {Column.USER_KEY: [pseudonym(user, key) for user in (GONE, STAYS)], "item_id": ["A", "B"]}
    )
    answers = tmp_path / "outputs" / "shop" / "run" / "recommendations"
    answers.mkdir(parents=True)
    pq.write_table(shown, answers / f"{Recommendation.TOP_K}.parquet")
    pyarrow.csv.write_csv(shown, answers / f"{Recommendation.TOP_K}.csv")
    bundle = tmp_path / "models" / "shop" / "run"
    bundle.mkdir(parents=True)
    (bundle / "config.json").write_text(json.dumps({"trained_on": {"version": version.name}}))
    (tmp_path / "cache" / f"{version.name}-cuts").mkdir(parents=True)
    return tmp_path


def holders(folder: Path, word: str, *, without: tuple[str, ...] = ()) -> list[str]:
    """Files in which a word stands, in their bytes or in a value of a Parquet file."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in without and not path.is_symlink():
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content += json.dumps(
                    pq.read_table(path, partitioning=None).to_pylist(), default=str
                ).encode()
            if word.encode() in content:
                found.append(str(path.relative_to(folder)))
    return found


def test_they_are_in_no_file_afterwards_and_the_others_are(folder: Path, spark: Any) -> None:
    keys = {user: pseudonym(user, load_key()) for user in (GONE, STAYS)}
    before = holders(folder, keys[GONE])
    assert {path.split("/")[0] for path in before} == {"features", "feedback", "outputs"}
    assert any(Table.QUARANTINE in path for path in before)
    assert any(Table.IMPRESSIONS in path for path in before)
    kept = holders(folder, keys[STAYS])

    done = erase(settings(folder, job="erase", erase_raw=True), frozenset({GONE, "nobody"}), spark)

    assert holders(folder, keys[GONE], without=(TOMBSTONES,)) == []
    assert holders(folder, f'"{GONE}"') == []
    assert holders(folder, keys[STAYS]) == kept
    assert (done.num_people, done.num_known, done.bundles, done.left) == (2, 1, ["run"], [])
    assert done.rows["raw files"] == sum(line["user"] == GONE for line in shop.regular_lines()) + 1
    assert not list((folder / "cache").iterdir())
    audit = (folder / "features" / "shop" / AUDIT).read_text()
    assert json.loads(audit)["bundles"] == ["run"]
    assert GONE not in audit
    assert keys[GONE] not in audit


def test_they_do_not_come_back(folder: Path, spark: Any) -> None:
    """The raw files and a new feedback log still hold them."""
    key = load_key()
    done = erase(settings(folder), frozenset({GONE}), spark)
    assert done.left == [str(folder / "raw.parquet")]
    version = folder / "features" / "shop" / done.versions[0]
    erased = json.loads((version / Table.METADATA).read_text())
    hand_back(folder, GONE)
    again = job.build(settings(folder), spark)
    assert holders(again, pseudonym(GONE, key)) == []
    metadata = json.loads((again / Table.METADATA).read_text())
    assert metadata["split"]["hash"] == erased["split"]["hash"]
    assert metadata["row_counts"]["erased_users"] == erased["row_counts"]["erased_users"] == 1
    for name in (Table.HISTORIES, Table.EXAMPLES, Table.VALUE_TARGETS, Table.USER_FEATURES):
        assert metadata["row_counts"][name] == erased["row_counts"][name]
        assert pq.read_table(again / name).num_rows == erased["row_counts"][name] > 0


def test_people_erased_while_a_run_is_under_way_stop_it(
    folder: Path, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / "features" / "shop" / Table.LATEST).resolve()
    real, told = job.row_counts, [f"{load_key().version} {'0' * 64}\n"]

    def counts(*arguments: Any) -> dict[str, int]:
        (folder / "features" / "shop" / TOMBSTONES).write_text("".join(told))
        return real(*arguments)

    monkeypatch.setattr(job, "row_counts", counts)
    with pytest.raises(InputError, match="people were erased while this ran"):
        job.build(settings(folder), spark)
    assert (folder / "features" / "shop" / Table.LATEST).resolve() == before


def test_another_key_needs_the_people_again(
    folder: Path, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    erase(settings(folder), frozenset({GONE}), spark)
    monkeypatch.setenv("RECSYS_HMAC_KEY", "another secret of enough bytes")
    (folder / "feedback").rename(folder / "away")
    rotated = settings(folder, rotate_key=True)
    with pytest.raises(InputError, match="under another pseudonym key"):
        job.build(rotated, spark)
    erase(rotated, frozenset({GONE}), spark)
    assert holders(job.build(rotated, spark), pseudonym(GONE, load_key())) == []


def test_a_changed_audit_log_is_told(folder: Path, spark: Any) -> None:
    root = folder / "features" / "shop"
    for number in range(3):
        add_audit_line(root, {"number": number})
    checked_audit(root)
    whole = (root / AUDIT).read_text()
    (root / AUDIT).write_text(whole.replace('"number": 1', '"number": 7'))
    with pytest.raises(InputError, match="line 3 does not follow"):
        erase(settings(folder), frozenset({GONE}), spark)
    assert not (root / TOMBSTONES).exists()


def test_nobody_is_erased_while_recommendations_are_written(folder: Path, spark: Any) -> None:
    """They would come out with these people, after the audit log says that they are gone."""
    before = {path for path in folder.rglob("*") if path.is_file()}
    parts = folder / "outputs" / "shop" / "run" / ".parts-recommendations-0123456789abcdef"
    with in_use(parts), pytest.raises(InputError, match=r"let recommend end, then run this again"):
        erase(settings(folder), frozenset({GONE}), spark)
    assert {path for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("format", ["csv", "json"])
def test_raw_lines_go_and_the_others_stay_as_they_are(tmp_path: Path, spark: Any, format: str) -> None:
    from spark_jobs.raw_files import check_raw, erase_raw

    lines = {
        "csv": ["item;user\n", "A; u1 \n", "'x;u1';u2\n", "B;u1\n", "C;12\n"],
        "json": [
            '{"user": "u1", "item": 1}\n',
            '{"user": "u2", "item": "u1"}\n',
            '{"user": 12.0, "item": 2}\n',
        ],
    }[format]
    path = tmp_path / f"raw.{format}"
    path.write_text("".join(lines))
    source = SourceTable(path=str(path), format=format, options={"header": True, "sep": ";", "quote": "'"})
    check_raw(source, "user")
    with pytest.raises(InputError, match="no plain column 'lower\\(user\\)'"):
        check_raw(source, "lower(user)")
    assert erase_raw(path, source, "user", frozenset({"u1", "12"})) == {"csv": 3, "json": 2}[format]
    assert path.read_text() == "".join({"csv": [lines[0], lines[2]], "json": [lines[1]]}[format])


def test_raw_parquet_reads_ids_as_the_job_does(tmp_path: Path) -> None:
    from spark_jobs.raw_files import erase_raw

    path = tmp_path / "raw.parquet"
    pq.write_table(pa.table({"user": [12.0, None, 12.5, 7.0]}), path, row_group_size=2)
    assert erase_raw(path, SourceTable(path=str(path)), "user", frozenset({"12", "7"})) == 2
    assert pq.read_table(path)["user"].to_pylist() == [None, 12.5]


def test_a_list_of_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="users_file=FILE"):
        read_people(None)
    (tmp_path / "people.txt").write_text("\n \n")
    with pytest.raises(InputError, match="names nobody"):
        read_people(str(tmp_path / "people.txt"))
    (tmp_path / "people.txt").write_text(" a \nb\n")
    assert read_people(str(tmp_path / "people.txt")) == {"a", "b"}


@pytest.mark.slow
def test_the_command_tells_what_it_did_and_names_nobody(folder: Path, spark: Any) -> None:
    """A data set of its own, by config alone; nothing is left of the run itself."""
    from tests import tiny

    (folder / "configs" / "dataset").mkdir(parents=True)
    chosen = dataclasses.asdict(shop.dataset(folder / "raw.parquet"))
    (folder / "configs" / "dataset" / "shop.yaml").write_text(json.dumps(chosen))
    (folder / "people.txt").write_text(f"{GONE}\n")
    arguments = ("--config-dir", "configs", "dataset=shop", "job=erase", "users_file=people.txt")
    before = {path for path in folder.rglob("*") if path.is_file()}
    done = tiny.run("-m", "spark_jobs", *arguments, cwd=folder)
    assert "1 of 1 people were known to data set shop" in done.stdout
    assert "bundles trained on them, to be trained again: run" in done.stdout
    new = {path.name for path in folder.rglob("*") if path.is_file()} - {path.name for path in before}
    assert new == {TOMBSTONES, AUDIT}
    assert tiny.run("-m", "spark_jobs", *arguments[:-1], cwd=folder, code=2).stderr.endswith(
        "job=erase needs users_file=FILE, a text file with one raw user id a line\n"
    )
