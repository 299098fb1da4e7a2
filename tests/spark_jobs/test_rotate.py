"""Another pseudonym key: the same people under other names in every file, and runs that go on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from recsys.policy.feedback_log import append_rows
from recsys.policy.impressions import IMPRESSION_KEY
from recsys.policy.outcomes import OUTCOME_FILE_SCHEMA, OUTCOME_KEY, pseudonymised
from recsys.pseudonym import heir, load_key, pseudonym
from recsys.rotating import FOLDER, rotating
from recsys.schema import Column, FeedbackTable, InputError, Outcome, Recommendation, Sealed, Table
from recsys.sealed import load_aes_key, place, unseal
from recsys.tombstones import AUDIT, TOMBSTONES, add_tombstones, checked_audit, tombstones
from spark_jobs import job
from spark_jobs import rotate as module
from spark_jobs.erase import erase
from spark_jobs.holders import versions
from spark_jobs.ledger import plan
from spark_jobs.publish import TABLES, latest_version
from spark_jobs.renaming import Renaming
from spark_jobs.rotate import rotate
from spark_jobs.rotation_checks import ready_to_rotate
from spark_jobs.settings import JobSettings, Sensitive, SourceTable, UserTable
from tests.spark_jobs import shop
from tests.spark_jobs.test_append import FIRST, SECOND, THIRD, days
from tests.spark_jobs.test_erase import impressions
from tests.spark_jobs.test_graph import settings as with_graph

OLD, NEW, AES = "the old secret of enough bytes", "the new secret of enough bytes", "0f" * 32
GHOST = "ghost"  # in the feedback, and in no raw table
PEOPLE = ("u1", "u2", "u3", "late", "early")
EMAIL = {"u1": "ann@example.org", "u3": "cat@example.org", "stranger": "eve@example.org"}


def under(monkeypatch: pytest.MonkeyPatch, *, now: str | None, before: str | None = None) -> None:
    for name, secret in (("RECSYS_HMAC_KEY", now), ("RECSYS_HMAC_PREVIOUS_KEY", before)):
        monkeypatch.delenv(name, raising=False)
        if secret is not None:
            monkeypatch.setenv(name, secret)


def key(secret: str) -> Any:
    return load_key({"RECSYS_HMAC_KEY": secret})


def settings(folder: Path, mode: str = "incremental", **changes: Any) -> JobSettings:
    users = UserTable(source=SourceTable(path=str(folder / "people.parquet")), user_id="who", profile={})
    plain = shop.settings(folder / "log", folder, users=users, sensitive=Sensitive(encrypt=["email"]))
    places = {
        name: str(folder / name.removesuffix("_dir")) for name in ("models_dir", "outputs_dir", "cache_dir")
    }
    return dataclasses.replace(plain, mode=mode, **(places | changes))


def hand_back(folder: Path, user: str, day: float) -> None:
    """An impression, and a purchase that followed it."""
    shown = impressions(pseudonym(user, load_key()))
    bought = {
        Outcome.OUTCOME_ID: f"{user}-{day}",
        Outcome.USER_ID: user,
        Outcome.ITEM_ID: "A",
        Outcome.EVENT_TYPE: "purchase",
        Outcome.TIMESTAMP: shop.seconds(day),
        Outcome.VALUE: 7.5,
        Outcome.SLATE_ID: shown[Outcome.SLATE_ID][0].as_py(),
    }
    outcomes = pseudonymised(pa.Table.from_pylist([bought], schema=OUTCOME_FILE_SCHEMA), load_key())
    for name, table, columns in (
        (FeedbackTable.IMPRESSIONS, shown, IMPRESSION_KEY),
        (FeedbackTable.OUTCOMES, outcomes, OUTCOME_KEY),
    ):
        append_rows(
            table=table,
            folder=folder / "feedback" / "shop" / name,
            key_columns=columns,
            key_version=load_key().version,
            source="test",
        )


def recommend(folder: Path) -> None:
    keys = [pseudonym(user, load_key()) for user in (*PEOPLE, "only recommended to")]
    shown = pa.table({Column.USER_KEY: [*keys, Recommendation.ANYONE], "item_name": ["a\nb"] * 7})
    answers = folder / "outputs" / "shop" / "run" / "recommendations"
    answers.mkdir(parents=True)
    pq.write_table(shown, answers / f"{Recommendation.TOP_K}.parquet")
    pyarrow.csv.write_csv(shown, answers / f"{Recommendation.TOP_K}.csv")
    parts = answers.with_name(".parts-recommendations-0123456789abcdef") / "000000"
    parts.mkdir(parents=True)
    pq.write_table(shown, parts / f"{Recommendation.TOP_K}.parquet")


@pytest.fixture(scope="module")
def grown(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(folder with two days appended under the old key, a copy of it, how two more runs went on there)."""
    folder, copy = tmp_path_factory.mktemp("grown"), tmp_path_factory.mktemp("copy") / "of"
    people = {"who": list(EMAIL), "email": list(EMAIL.values())}
    pq.write_table(pa.table(people), folder / "people.parquet")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("RECSYS_AES_KEY", AES)
        under(monkeypatch, now=OLD)
        for name in (FIRST, SECOND):
            shop.write(days()[name], folder / "log" / name)
            hand_back(folder, "u1" if name == FIRST else GHOST, 96 if name == FIRST else 97)
            version = job.build(settings(folder), spark)
            (folder / "cache" / version.name).mkdir(parents=True)
        recommend(folder)
        subprocess.run(["cp", "-a", folder, copy], check=True)  # with what versions share on disk
        shop.write(days()[THIRD], folder / "log" / THIRD)
        went_on = [told(job.build(settings(folder, mode), spark)) for mode in ("incremental", "full")]
    return folder, copy, went_on


@pytest.fixture
def folder(grown: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As it was after two days, with both keys at hand."""
    shutil.rmtree(grown[0])
    subprocess.run(["cp", "-a", grown[1], grown[0]], check=True)
    monkeypatch.setenv("RECSYS_AES_KEY", AES)
    under(monkeypatch, now=NEW, before=OLD)
    return grown[0]


def told(version: Path) -> dict[str, Any]:
    """Hashes of the sorted rows but for pseudonyms and what is sealed for them, and who has which index."""
    without = {Column.USER_KEY, Sealed.VALUE}
    content = {}
    for name in TABLES:
        rows = pq.read_table(version / name).to_pylist()
        plain = [{name: value for name, value in row.items() if name not in without} for row in rows]
        content[name] = hashlib.sha256("\n".join(sorted(map(repr, plain))).encode()).hexdigest()
    now = load_key()
    names = {pseudonym(user, now): user for user in PEOPLE}
    users = pq.read_table(version / Table.HISTORIES).to_pylist()
    content["users"] = {names.get(row[Column.USER_KEY], GHOST): row[Column.USER_INDEX] for row in users}
    shown = pq.read_table(version / Table.IMPRESSIONS).to_pylist()
    content["shown to"] = sorted(names.get(row[Column.USER_KEY], GHOST) for row in shown)
    return content


def texts(folder: Path) -> dict[str, bytes]:
    """What stands in each file: its bytes, and the values of Parquet."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            text = path.read_bytes()
            if path.suffix == ".parquet":
                text += repr(pq.read_table(path, partitioning=None).to_pylist()).encode()
            found[str(path.relative_to(folder))] = text
    return found


def holders(folder: Path, words: set[str]) -> list[str]:
    places = ("features", "feedback", "outputs", "cache")
    return [
        f"{place}/{path}"
        for place in places
        for path, text in texts(folder / place).items()
        if any(word.encode() in text for word in words)
    ]


def old_names() -> set[str]:
    return {pseudonym(user, key(OLD)) for user in (*PEOPLE, GHOST, "only recommended to")}


def content(version: Path) -> dict[str, Any]:
    return json.loads((version / Table.METADATA).read_text())


@pytest.mark.slow
def test_runs_go_on_as_if_nothing_had_happened(folder: Path, grown: Any, spark: Any) -> None:
    assert {path.split("/")[0] for path in holders(folder, old_names())} == {
        "features",
        "feedback",
        "outputs",
    }
    before = told_by_old(folder)
    done = rotate(settings(folder, job="rotate", key_map=str(folder / "map.parquet")), frozenset(), spark)

    assert holders(folder, old_names() | {OLD, NEW, AES}) == []
    ghosts = {heir(pseudonym(user, key(OLD)), key(NEW)) for user in (GHOST, "only recommended to")}
    assert (done.num_renamed, done.num_heirs) == (len(PEOPLE), len(ghosts))
    assert "2 people are in no raw table" in done.told("shop")
    root = folder / "features" / "shop"
    first, second = versions(root)
    assert done.versions == [first.name, second.name]
    assert told(second) == before
    assert content(second)["pseudonym"] == {"key_version": key(NEW).version, "demo": False}
    shared = [{file.stat().st_ino for file in (v / Table.LINES).glob("*.parquet")} for v in (first, second)]
    assert shared[0] < shared[1]  # versions share what they shared
    assert not list((folder / "cache").iterdir())
    assert not (root / FOLDER).exists()
    assert not list(root.glob(".building-*"))

    answers = folder / "outputs" / "shop" / "run" / "recommendations"
    named = {pseudonym(user, key(NEW)) for user in PEOPLE} | ghosts
    for rows in (
        pq.read_table(answers / "top_k.parquet"),
        pyarrow.csv.read_csv(
            answers / "top_k.csv", parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True)
        ),
    ):
        assert set(rows[Column.USER_KEY].to_pylist()) & (named | {Recommendation.ANYONE}) == {
            *(pseudonym(user, key(NEW)) for user in PEOPLE),
            heir(pseudonym("only recommended to", key(OLD)), key(NEW)),
            Recommendation.ANYONE,
        }
        assert rows["item_name"].to_pylist() == ["a\nb"] * 7
    left = {row["old"]: row["new"] for row in pq.read_table(folder / "map.parquet").to_pylist()}
    for user in (*PEOPLE, "stranger"):
        assert left.pop(pseudonym(user, key(OLD))) == pseudonym(user, key(NEW))
    assert set(left.values()) == ghosts

    checked_audit(root)
    audit = (root / AUDIT).read_text()
    assert json.loads(audit)["people_without_raw_id"] == len(ghosts)
    for row in pq.read_table(second / Table.SEALED).to_pylist():
        bound_to = place("shop", Table.SEALED, row[Sealed.COLUMN], row[Column.USER_KEY])
        user = next(user for user in EMAIL if pseudonym(user, key(NEW)) == row[Column.USER_KEY])
        assert unseal(row[Sealed.VALUE], load_aes_key(), bound_to=bound_to) == EMAIL[user]

    shop.write(days()[THIRD], folder / "log" / THIRD)
    went_on = [told(job.build(settings(folder, mode), spark)) for mode in ("incremental", "full")]
    assert went_on == grown[2]
    assert "shown to" in went_on[0]
    assert went_on[0]["users"][GHOST] > 0
    assert holders(folder, old_names()) == []


def told_by_old(folder: Path) -> dict[str, Any]:
    """`told` of the last version while it is under the old key."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        under(monkeypatch, now=OLD)
        return told((folder / "features" / "shop" / Table.LATEST).resolve())


def test_what_dies_half_way_is_run_again(folder: Path, spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four deaths, each later than the one before. Erased people whose ids nobody has are let go."""
    root, before = folder / "features" / "shop", told_by_old(folder)
    add_tombstones(root, key(OLD).version, [pseudonym("erased", key(OLD)), pseudonym("u9", key(OLD))])
    chosen = settings(folder, job="rotate", drop_tombstones=True)
    calls: list[str] = []

    def dying(what: str, real: Any, after: int) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            calls.append(what)
            if calls.count(what) > after:
                raise KeyboardInterrupt
            return real(*arguments, **named)

        return call

    for place_, name, after in (
        (module, "_rename_version", 1),
        (Renaming, "rename_log", 1),
        (Renaming, "rename_output", 1),
        (module, "rebase", 1),
        (module, "discard", 0),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(place_, name, dying(name, getattr(place_, name), after))
            with pytest.raises(KeyboardInterrupt):
                rotate(chosen, frozenset({"u9"}), spark)
        begun = rotating(root)
        assert begun is not None
        (root / FOLDER / str(int(begun.map) + 1) / "died before it was noted").mkdir(parents=True)
        for now in (OLD, NEW):
            with monkeypatch.context() as other:
                under(other, now=now)
                with pytest.raises(InputError, match="has not ended; let job=rotate end, or run it again"):
                    job.checked_key(settings(folder))
    with monkeypatch.context() as other:
        under(other, now=OLD, before=NEW)
        with pytest.raises(InputError, match=r"is on its way from key version .* run job=rotate with those"):
            ready_to_rotate(chosen)
    done = rotate(chosen, frozenset({"u9"}), spark)

    assert (done.num_renamed, done.num_heirs, done.versions) == (len(PEOPLE), 2, [])
    assert holders(folder, old_names()) == []
    assert told(versions(root)[-1]) == before
    erased = f"{key(NEW).version} {pseudonym('u9', key(NEW))}\n"
    assert (root / TOMBSTONES).read_text() == erased
    answers = pq.read_table(folder / "outputs" / "shop" / "run" / "recommendations" / "top_k.parquet")
    only = heir(pseudonym("only recommended to", key(OLD)), key(NEW))
    assert only in answers[Column.USER_KEY].to_pylist()  # and no heir of the heir
    assert not (root / FOLDER).exists()
    shop.write(days()[THIRD], folder / "log" / THIRD)
    log = SourceTable(path=str(folder / "feedback" / "shop" / FeedbackTable.OUTCOMES))
    under(monkeypatch, now=NEW)
    version = job.checked_key(settings(folder)).version
    taken = plan(settings(folder), latest_version(root), log, key_version=version, now=0)
    assert [batch.number for batch in taken.reads] == [3]
    assert taken.ledger.is_based


def test_refusals_touch_nothing(folder: Path, spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings(folder, job="rotate", key_map=str(folder / "map.parquet"))
    root = folder / "features" / "shop"
    before = texts(folder)

    def refused(message: str, *, with_spark: bool = False, **environment: str | None) -> None:
        with monkeypatch.context() as other:
            for name, value in environment.items():
                other.delenv(name, raising=False)
                if value is not None:
                    other.setenv(name, value)
            with pytest.raises(InputError, match=message) as told:
                rotate(chosen, frozenset(), spark) if with_spark else ready_to_rotate(chosen)
        assert not any(secret in str(told.value) for secret in (OLD, NEW, AES, "another secret"))
        lock = root.relative_to(folder) / ".publishing"
        assert {path: text for path, text in texts(folder).items() if path != str(lock)} == {
            path: text for path, text in before.items() if path != str(lock)
        }

    refused("needs the new key in RECSYS_HMAC_KEY", RECSYS_HMAC_KEY=None)
    refused("hold the same key", RECSYS_HMAC_KEY=OLD)
    refused("holds pseudonyms under key version .*, which is neither", RECSYS_HMAC_PREVIOUS_KEY=None)
    refused(
        "holds pseudonyms under key version .*, which is neither",
        RECSYS_HMAC_PREVIOUS_KEY="another secret of enough bytes",
    )
    refused("there is no key; set RECSYS_AES_KEY", RECSYS_AES_KEY=None)
    refused("was sealed under key version .*, RECSYS_AES_KEY has", RECSYS_AES_KEY="1e" * 32)
    refused(
        "none of the 7 people in the tables of data set shop is in its raw tables",
        with_spark=True,
        RECSYS_HMAC_PREVIOUS_KEY="another secret of enough bytes",
        RECSYS_HMAC_PREVIOUS_KEY_VERSION=key(OLD).version,
    )
    found = module.find_holders(chosen)
    with monkeypatch.context() as other:  # a file came after the map was made
        calls = iter([found, dataclasses.replace(found, outputs=())])
        other.setattr(module, "find_holders", lambda _: next(calls))
        refused("files of data set shop came or went while this ran", with_spark=True)
    add_tombstones(root, key(OLD).version, [pseudonym("erased", key(OLD)), pseudonym("u1", key(OLD))])
    before = texts(folder)
    refused("1 erased people are in no raw table.*users_file=FILE.*drop_tombstones", with_spark=True)
    done = rotate(chosen, frozenset({"erased"}), spark)
    assert (done.num_erased, done.num_dropped) == (2, 0)
    assert tombstones(root) == {
        key(NEW).version: frozenset(pseudonym(user, key(NEW)) for user in ("erased", "u1"))
    }
    with pytest.raises(InputError, match="there is nothing to rotate"):
        ready_to_rotate(chosen)


def test_a_build_that_was_under_way_does_not_publish(
    folder: Path, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began under the old key, and the key was changed before it could publish."""
    root = folder / "features" / "shop"
    real = job.row_counts

    def counts(*arguments: Any) -> dict[str, int]:
        metadata = versions(root)[-1] / Table.METADATA
        changed = json.loads(metadata.read_text()) | {"pseudonym": {"key_version": "new", "demo": False}}
        metadata.write_text(json.dumps(changed))
        return real(*arguments)

    monkeypatch.setattr(job, "row_counts", counts)
    under(monkeypatch, now=OLD)
    with pytest.raises(InputError, match=r"under key version 'new'.*change the key with job=rotate"):
        job.build(settings(folder, "full"), spark)
    assert len(versions(root)) == 2


@pytest.mark.slow
def test_features_that_are_dropped_do_not_end_an_appended_log(
    tmp_path: Path, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The raw file of the first day is gone by then, so that no full run could take the place of this one."""
    under(monkeypatch, now=OLD)
    chosen = dataclasses.replace(shop.settings(tmp_path / "log", tmp_path), cache_dir=str(tmp_path / "cache"))
    features = dataclasses.replace(chosen.dataset.features, drop=["country", "text"])
    chosen = dataclasses.replace(
        chosen, mode="incremental", dataset=dataclasses.replace(chosen.dataset, features=features)
    )
    first, second = tmp_path / "log" / FIRST, tmp_path / "log" / SECOND
    shop.write(shop.regular_lines(), first)
    before = content(job.build(chosen, spark))
    under(monkeypatch, now=NEW, before=OLD)
    rotate(dataclasses.replace(chosen, job="rotate", mode="full"), frozenset(), spark)
    first.unlink()
    shop.write([shop.line("u1", "A", 119.8, invoice="next")], second)
    under(monkeypatch, now=NEW)
    after = content(job.build(chosen, spark))
    assert after["row_counts"]["rows_kept"] == before["row_counts"]["rows_kept"] + 1


def test_who_is_in_the_graph_alone_is_in_a_raw_table(
    tmp_path: Path, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """u2 left the log, and "star", who is erased, never was in it."""
    under(monkeypatch, now=OLD)
    chosen = with_graph(tmp_path)
    version = job.build(chosen, spark)
    erase(dataclasses.replace(chosen, job="erase"), frozenset({"star"}), spark)
    shop.write([each for each in shop.regular_lines() if each["user"] != "u2"], tmp_path / "raw.parquet")
    under(monkeypatch, now=NEW, before=OLD)
    done = rotate(dataclasses.replace(chosen, job="rotate"), frozenset(), spark)
    assert (done.num_heirs, done.num_erased, done.num_dropped) == (0, 1, 0)
    users = set(pq.read_table(version / Table.HISTORIES)[Column.USER_KEY].to_pylist())
    assert users == {pseudonym(user, key(NEW)) for user in ("u1", "u2", "u3", "late")}
    erased = frozenset({pseudonym("star", key(NEW))})
    assert tombstones(tmp_path / "features" / "shop") == {key(NEW).version: erased}


def test_settings_belong_to_their_jobs(tmp_path: Path) -> None:
    for changes in ({"key_map": "map.parquet"}, {"drop_tombstones": True}, {"users_file": "people.txt"}):
        settings(tmp_path, job="rotate", **changes)
        with pytest.raises(InputError, match=r"belongs to job=.*rotate, not to job=build"):
            settings(tmp_path, **changes)


@pytest.mark.slow
def test_the_command_goes_from_the_demo_key_to_one_of_its_own(
    tmp_path: Path, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests import tiny

    under(monkeypatch, now=None)
    shop.write(shop.regular_lines(), tmp_path / "raw.parquet")
    version = job.build(shop.settings(tmp_path / "raw.parquet", tmp_path), spark)
    (tmp_path / "configs" / "dataset").mkdir(parents=True)
    chosen = dataclasses.asdict(shop.dataset(tmp_path / "raw.parquet"))
    (tmp_path / "configs" / "dataset" / "shop.yaml").write_text(json.dumps(chosen))
    (tmp_path / "new key").write_text(f"{NEW}\n")
    monkeypatch.setenv("RECSYS_HMAC_KEY_FILE", str(tmp_path / "new key"))
    arguments = ("-m", "spark_jobs", "--config-dir", "configs", "dataset=shop", "job=rotate")
    done = tiny.run(*arguments, cwd=tmp_path)
    assert f"is under key version '{key(NEW).version}' now, no more under 'demo-1'" in done.stdout
    assert "4 people go on as if nothing had happened" in done.stdout
    assert NEW not in done.stdout + done.stderr
    users = set(pq.read_table(version / Table.HISTORIES)[Column.USER_KEY].to_pylist())
    assert users == {pseudonym(user, key(NEW)) for user in ("u1", "u2", "u3", "late")}
    again = tiny.run(*arguments, cwd=tmp_path, code=2)
    assert "there is nothing to rotate" in again.stderr
