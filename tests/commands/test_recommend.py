"""`recsys recommend`, as typed, on a small cut of real invoices."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from recsys.bundle import Bundle, load_bundle
from recsys.bundle_fit import catalogue_for, check_fit
from recsys.commands.recommend import occasion
from recsys.data.tables import FeatureTables
from recsys.policy.impressions import check_impressions
from recsys.policy.slates import PolicyConfig
from recsys.recommendation import Recommendations, Recommender
from recsys.recommendation_tables import top_k_table
from recsys.schema import (
    Column,
    FeedbackTable,
    Impression,
    InputError,
    MisfitError,
    Recommendation,
    Table,
    UserNumeric,
)
from tests import tiny

POLICY = PolicyConfig(kind="deterministic", slate_size=5)


@pytest.fixture(scope="module")
def written(tiny_bundle: Path, tiny_root: Path) -> Path:
    done = tiny.run("-m", "recsys", "recommend", "bundle=tiny", "at=test", "top_k=7", cwd=tiny_root)
    folder = tiny_root / "outputs" / "online_retail" / "tiny" / "recommendations"
    last = done.stdout.splitlines()[-1]
    assert last == f"report: {tiny_root.resolve()}/outputs/online_retail/tiny/report.html"
    assert f"{folder.resolve()}" in done.stdout.splitlines()[-2]
    return folder


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


@pytest.fixture
def tables(tiny_tables: Path, tiny_root: Path) -> FeatureTables:
    return FeatureTables(tables_dir=tiny_tables, cache_dir=tiny_root / "outputs" / "cache")


def found(bundle: Bundle, tables: FeatureTables, **changes: Any) -> Recommendations:
    settings = {"at": "test", "top_k": 5, "policy": POLICY} | changes
    return Recommender(bundle=bundle, tables=tables, **settings).chunk(0)


def users_at_test(tiny_tables: Path) -> dict[str, int]:
    """user_key -> number of events up to the cut, straight from the files."""
    examples = pq.read_table(tiny_tables / Table.EXAMPLES).to_pylist()
    keys = {
        row[Column.USER_INDEX]: row[Column.USER_KEY]
        for row in pq.read_table(tiny_tables / Table.HISTORIES).to_pylist()
    }
    return {
        keys[row[Column.USER_INDEX]]: row[Column.PREFIX_LENGTH]
        for row in examples
        if row[Column.SPLIT] == "test"
    }


def first_seen(tiny_tables: Path) -> dict[str, int]:
    rows = pq.read_table(tiny_tables / Table.ITEM_FEATURES).to_pylist()
    return {row[Column.ITEM_ID]: row[Column.FIRST_SEEN] for row in rows}


def cut_of(tiny_tables: Path) -> int:
    return json.loads((tiny_tables / Table.METADATA).read_text())["split"]["cuts"]["test"]


def test_every_user_and_anyone_get_k_items_by_falling_score(written: Path, tiny_tables: Path) -> None:
    rows = pq.read_table(written / "top_k.parquet").to_pylist()
    by_user: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_user.setdefault(row[Column.USER_KEY], []).append(row)
    assert set(by_user) == {*users_at_test(tiny_tables), Recommendation.ANYONE}
    for slate in by_user.values():
        assert [row[Recommendation.RANK] for row in slate] == [1, 2, 3, 4, 5, 6, 7]
        scores = [row[Recommendation.SCORE] for row in slate]
        assert scores == sorted(scores, reverse=True)
        assert len({row[Column.ITEM_ID] for row in slate}) == 7


def test_cold_users_are_answered_like_anyone(written: Path, tiny_tables: Path) -> None:
    cold = [key for key, length in users_at_test(tiny_tables).items() if length == 0]
    assert cold
    values = {row[Column.USER_KEY]: row for row in pq.read_table(written / "value.parquet").to_pylist()}
    for key in (*cold, Recommendation.ANYONE):
        spend = [values[key][f"spend_{days}d"] for days in (7, 30, 90)]
        assert 0 <= spend[0] <= spend[1] <= spend[2] < np.inf
        chances = [values[key][f"return_{days}d"] for days in (7, 30, 90)]
        assert 0 <= chances[0] <= chances[1] <= chances[2] <= 1
        assert 0 <= values[key]["conversion_7d"] <= 1


def test_no_item_of_the_future_is_recommended(written: Path, tiny_tables: Path) -> None:
    seen, cut = first_seen(tiny_tables), cut_of(tiny_tables)
    late = {item for item, moment in seen.items() if moment > cut}
    assert late
    for name in ("top_k", "impressions"):
        items = set(pq.read_table(written / f"{name}.parquet")[Column.ITEM_ID].to_pylist())
        assert items.isdisjoint(late)
        assert items <= set(seen)


def test_vectors_have_length_one_for_users_and_all_items(written: Path, tiny_tables: Path) -> None:
    items = pq.read_table(written / "item_vectors.parquet")
    assert set(items[Column.ITEM_ID].to_pylist()) == set(first_seen(tiny_tables))
    users = pq.read_table(written / "user_vectors.parquet")
    assert users.num_rows == len(users_at_test(tiny_tables)) + 1
    for table in (items, users):
        vectors = np.array(table[Recommendation.VECTOR].to_pylist())
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-4)


def test_everyone_is_answered_as_of_the_end_of_the_data(
    tiny_bundle: Path, tiny_root: Path, tiny_tables: Path
) -> None:
    output = tiny_root / "now"
    arguments = ("bundle=tiny", "top_k=10000", "policy=deterministic", f"output_dir={output}")
    tiny.run("-m", "recsys", "recommend", *arguments, cwd=tiny_root)
    histories = pq.read_table(tiny_tables / Table.HISTORIES)
    users = set(histories[Column.USER_KEY].to_pylist())
    assert users > set(users_at_test(tiny_tables)), "some came later"
    last = max(moment for row in histories[Column.TIMESTAMP].to_pylist() for moment in row)
    impressions = pq.read_table(output / "impressions.parquet")
    assert set(impressions[Impression.USER_KEY].to_pylist()) == users
    assert set(impressions[Impression.TIMESTAMP].to_pylist()) == {last}
    top_k = pq.read_table(output / "top_k.parquet")
    assert set(top_k[Column.USER_KEY].to_pylist()) == {*users, Recommendation.ANYONE}
    assert set(top_k[Column.ITEM_ID].to_pylist()) == set(first_seen(tiny_tables)), "all are candidates"
    assert np.isfinite(top_k[Recommendation.SCORE].to_numpy()).all()
    assert pq.read_table(output / "value.parquet").num_rows == len(users) + 1


def test_what_came_since_the_test_cut_counts_now(bundle: Bundle, tables: FeatureTables) -> None:
    """Popularity and histories up to the end of the data; ids that came after training stay unlearned."""
    then, now = (catalogue_for(bundle, tables, at) for at in ("test", "now"))
    late_V = tables.items("now").first_seen > tables.cut("test")
    assert late_V.any()
    assert not now.in_training_V[late_V].any()
    assert (now.in_training_V == then.in_training_V).all()
    purchase = tables.metadata["event_types"]["purchase"]
    flat = tables.histories
    bought = np.bincount(flat.item_index[flat.event_type == purchase], minlength=tables.num_items + 1)
    assert now.popularity_TVW[0, 1:, 2].numpy() == pytest.approx(np.log1p(bought[1:]), abs=1e-5)
    prefix_length = tables.at_cut(split="now").prefix_length
    assert prefix_length.sum() == len(flat.item_index)
    answer = found(bundle, tables, at="now")
    assert len(answer.user_key_U) == len(prefix_length) + 1


def test_the_csv_names_the_items(written: Path, tiny_tables: Path) -> None:
    texts = {
        row[Column.ITEM_ID]: row[Column.TEXT]
        for row in pq.read_table(tiny_tables / Table.ITEM_FEATURES).to_pylist()
        if row[Column.VALID_FROM] == cut_of(tiny_tables)
    }
    with (written / "top_k.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["user_key", "rank", "item_id", "item_name", "score"]
    assert len(rows) == pq.read_table(written / "top_k.parquet").num_rows
    assert all(row["item_name"] == texts[row["item_id"]] for row in rows)


def test_impressions_are_what_feedback_takes_in(written: Path, tiny_tables: Path) -> None:
    table = pq.read_table(written / "impressions.parquet")
    check_impressions(table, source="impressions.parquet")
    assert table.schema.metadata[FeedbackTable.DATASET] == b"online_retail"
    users = users_at_test(tiny_tables)
    assert set(table[Impression.USER_KEY].to_pylist()) == set(users)
    assert table.num_rows == 10 * len(users)
    assert set(table[Impression.TIMESTAMP].to_pylist()) == {cut_of(tiny_tables)}
    assert not any(table[Impression.IS_DETERMINISTIC].to_pylist())


def test_a_second_run_replaces_the_first_as_a_whole(written: Path, tiny_root: Path) -> None:
    output = tiny_root / "again"
    arguments = ("-m", "recsys", "recommend", "bundle=tiny", f"output_dir={output}")
    tiny.run(*arguments, cwd=tiny_root)
    (output / "left_over").touch()
    tiny.run(*arguments, "show_names=false", "top_k=1", "policy=deterministic", cwd=tiny_root)
    assert sorted(path.name for path in output.iterdir()) == [
        "impressions.parquet",
        "item_vectors.parquet",
        "top_k.csv",
        "top_k.parquet",
        "user_vectors.parquet",
        "value.parquet",
    ]
    assert (output / "top_k.csv").read_text().startswith('"user_key","rank","item_id","score"')
    best = pq.read_table(output / "top_k.parquet")
    shown = pq.read_table(output / "impressions.parquet").to_pylist()
    first = {row[Column.USER_KEY]: row[Column.ITEM_ID] for row in shown if row[Impression.SLOT] == 1}
    expected = {row[Column.USER_KEY]: row[Column.ITEM_ID] for row in best.to_pylist()}
    assert first == {key: item for key, item in expected.items() if key != Recommendation.ANYONE}
    assert not [path for path in tiny_root.iterdir() if path.name.startswith(".")]


def test_items_a_user_has_taken_are_left_out_where_the_data_set_says_so(
    bundle: Bundle, tables: FeatureTables, tiny_tables: Path
) -> None:
    cut, taken = cut_of(tiny_tables), {}
    purchase = tables.metadata["event_types"]["purchase"]
    for row in pq.read_table(tiny_tables / Table.HISTORIES).to_pylist():
        events = zip(row[Column.ITEM_INDEX], row[Column.EVENT_TYPE], row[Column.TIMESTAMP], strict=True)
        bought = {item for item, kind, moment in events if kind == purchase and moment <= cut}
        taken[row[Column.USER_KEY]] = taken.get(row[Column.USER_KEY], set()) | bought

    def repeats() -> int:
        rows = top_k_table(found(bundle, tables)).to_pylist()
        return sum(row[Column.ITEM_INDEX] in taken.get(row[Column.USER_KEY], ()) for row in rows)

    assert repeats() > 0
    tables.metadata["filter_seen"] = True
    assert repeats() == 0


def test_an_item_new_to_the_bundle_is_scored_by_content_alone(bundle: Bundle, tables: FeatureTables) -> None:
    """The bundle forgets the later half of its items: their rows of the id table may hold anything."""
    half = tables.num_items // 2
    short = dataclasses.replace(bundle, item_ids=bundle.item_ids[:half])
    catalogue = catalogue_for(short, tables, "test")
    assert catalogue.in_training_V[1:half].any()
    assert not catalogue.in_training_V[half:].any()
    new = [i for i in range(half, tables.num_items + 1) if tables.items("test").in_training[i]]
    assert new
    before = found(short, tables)
    lookup = bundle.model.item_tower.lookup.weight
    kept = lookup.detach().clone()
    with torch.no_grad():
        lookup[half:] = 1e6
    try:
        after = found(short, tables)
    finally:
        with torch.no_grad():
            lookup.copy_(kept)
    assert (before.item_UK == after.item_UK).all()
    everything = top_k_table(found(short, tables, top_k=tables.num_items))
    assert set(new) <= set(everything[Column.ITEM_INDEX].to_pylist())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"dataset": "another"}, "name one of this data set"),
        ({"num_items": 10**9}, "reshard it or retrain"),
        ({"item_fields": []}, "have 0 item_fields"),
        ({"item_numeric": ["a"] * 99}, "have 99 item_numeric"),
        ({"profile_fields": []}, "have 0 profile_fields"),
        ({"user_numeric": [*UserNumeric.ALL, *UserNumeric.GRAPH]}, "a follow graph has come or gone"),
    ],
)
def test_tables_that_do_not_fit_are_refused(
    bundle: Bundle, tables: FeatureTables, change: dict[str, Any], complaint: str
) -> None:
    check_fit(bundle, tables)
    tables.metadata.update(change)
    with pytest.raises(InputError, match=complaint) as refused:
        check_fit(bundle, tables)
    assert isinstance(refused.value, MisfitError) == ("dataset" not in change)


def test_a_bundle_does_not_act_before_what_it_learned(bundle: Bundle, tables: FeatureTables) -> None:
    later = dataclasses.replace(
        bundle, trained_on=bundle.trained_on | {"learned_until": tables.cut("test") + 1}
    )
    with pytest.raises(InputError, match="the model has learned until"):
        found(later, tables)


def test_renumbered_items_are_refused(bundle: Bundle, tables: FeatureTables) -> None:
    swapped = [*bundle.item_ids]
    swapped[1], swapped[2] = swapped[2], swapped[1]
    with pytest.raises(InputError, match=r"item_index 1 is .* begun anew"):
        found(dataclasses.replace(bundle, item_ids=swapped), tables)


class Cut:
    """As much of the tables as an occasion needs."""

    def __init__(self, cut: int, *, has_time: bool = True) -> None:
        self.has_time, self._cut = has_time, cut

    def cut(self, at: str) -> int:
        return self._cut


def test_the_occasion_is_the_time_given_or_the_cut() -> None:
    cut = Cut(1_315_612_800)  # 2011-09-10T00:00:00Z
    assert occasion(None, cut, "test") == 1_315_612_800
    assert occasion("2011-09-11", cut, "test") == 1_315_699_200
    assert occasion("2011-09-10T02:00:00+01:00", cut, "test") == 1_315_616_400
    assert occasion("1970-01-02", Cut(0, has_time=False), "test") == 86_400
    for given, complaint in (
        ("tomorrow", "shown_at=tomorrow is no ISO time"),
        ("2011-09-09", "lies before the test cut"),
    ):
        with pytest.raises(InputError, match=complaint):
            occasion(given, cut, "test")
    with pytest.raises(InputError, match="lies before the end of the data"):
        occasion("2011-09-09", cut, "now")
    with pytest.raises(InputError, match="before 1970"):
        occasion("1969-12-31", Cut(0, has_time=False), "test")


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (("bundle=nobody",), "there is no bundle 'nobody' in models/online_retail; there are tiny"),
        (
            ("bundle=champion",),
            "models/online_retail has no champion yet; make one: python -m recsys prom",
        ),
        (("bundle=tiny", "at=train"), "at=train is no split with one cut"),
        (("bundle=tiny", "top_k=ten"), "top_k must be of type int, not 'ten'"),
        (("bundle=tiny", "approximate={num_probes:0}"), "approximate.num_probes=0 does not fit"),
        (("bundle=tiny", "approximate={num_probes:8}"), "this model has neighbours"),
        (("bundle=tiny", "version=old"), "features/online_retail/old does not exist"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    written: Path, tiny_root: Path, overrides: tuple[str, ...], complaint: str
) -> None:
    done = tiny.run("-m", "recsys", "recommend", "output_dir=refused", *overrides, cwd=tiny_root, code=2)
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tiny_root / "refused").exists()


@pytest.mark.parametrize("filter_seen", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_candidates": 40},
        {"kind": "plackett_luce", "num_candidates": 40, "exploration_floor": 0.1},
        {"kind": "plackett_luce", "num_candidates": 40, "max_share": 0.1, "dial": 1.0},
    ],
    ids=str,
)
def test_recommendations_found_without_all_scores_are_the_same(
    bundle: Bundle,
    tables: FeatureTables,
    changes: dict[str, Any],
    filter_seen: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables.metadata["filter_seen"] = filter_seen
    bundle = dataclasses.replace(bundle, model=copy.deepcopy(bundle.model))
    bundle.model.neighbours = None
    policy = dataclasses.replace(POLICY, **changes)
    parts = found(bundle, tables, policy=policy, top_k=30)
    monkeypatch.setattr("recsys.recommendation.finds_without_scores", lambda *_: False)
    whole = found(bundle, tables, policy=policy, top_k=30)
    np.testing.assert_array_equal(parts.item_UK, whole.item_UK)
    np.testing.assert_allclose(parts.score_UK, whole.score_UK, atol=1e-4)
    np.testing.assert_array_equal(parts.slates.item_BK, whole.slates.item_BK)
    np.testing.assert_allclose(parts.slates.propensity_BK, whole.slates.propensity_BK, rtol=1e-4)
    assert parts.slates.candidates_hash_B == whole.slates.candidates_hash_B
