"""Features that a model rests on, by a judge that is known to use them, and of a trained bundle."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys.batch import Catalogue
from recsys.data.cut_tables import CutTable
from recsys.data.flat import FlatHistories
from recsys.evaluation.importance import (
    GINI,
    NDCG,
    ImportanceConfig,
    Judged,
    importance_lines,
    importances,
)
from recsys.evaluation.permuting import (
    ACTIVITY,
    EVENT,
    FIELD,
    NUMBER,
    PROFILE,
    WORDS,
    Feature,
    Inputs,
    features_of,
    inputs_of,
    permuted,
)
from recsys.schema import InputError, UserNumeric
from tests import tiny

NUM_USERS, NUM_ITEMS = 300, 40
SPEND_COLUMN = UserNumeric.ALL.index(UserNumeric.SPEND)
TIER = Feature(name="tier", kind=PROFILE, column=0)
NOISE = Feature(name="eyes", kind=PROFILE, column=1)
SPEND = Feature(name="spend", kind=ACTIVITY, column=SPEND_COLUMN)
BRAND = Feature(name="brand", kind=FIELD, column=0)
PRICE = Feature(name="log_price", kind=NUMBER, column=0)
WORD = Feature(name="tokens", kind=WORDS, column=None)
DWELL = Feature(name="dwell_s", kind=EVENT, column=None)
QUERY = Feature(name="query", kind=EVENT, column=None)


@pytest.fixture
def table() -> CutTable:
    rng = np.random.default_rng(1)
    return CutTable(
        cut=0,
        user_index=np.arange(1, NUM_USERS + 1),
        prefix_length=np.where(np.arange(NUM_USERS) < 20, 0, 3),  # the first are not yet here
        activity=rng.gamma(1.0, 10.0, (NUM_USERS, len(UserNumeric.ALL))),
        profile=rng.integers(1, 5, (NUM_USERS, 2)),
        spend=np.zeros((NUM_USERS, 1)),
        num_purchases=np.zeros((NUM_USERS, 1), np.int64),
        num_active_days=np.zeros((NUM_USERS, 1), np.int64),
        next_active_days=np.full(NUM_USERS, np.inf),
        observed_days=np.full(NUM_USERS, 30.0),
    )


@pytest.fixture
def catalogue() -> Catalogue:
    rng = np.random.default_rng(2)
    size = NUM_ITEMS + 1
    return Catalogue(
        item_V=torch.arange(size),
        categorical_VF=torch.from_numpy(rng.integers(1, 6, (size, 2))),
        numeric_VN=torch.from_numpy(rng.normal(size=(size, 1)).astype(np.float32)),
        tokens_VT=torch.from_numpy(rng.integers(0, 9, (size, 3))),
        in_training_V=torch.ones(size, dtype=torch.bool),
        popularity_TVW=torch.zeros(1, size, 4),
    )


@pytest.fixture
def inputs(table: CutTable, catalogue: Catalogue) -> Inputs:
    """Each user viewed, searched with one or two words and bought, four times; three events are known."""
    rng = np.random.default_rng(3)
    kinds = np.tile([1, 2, 3], 4 * NUM_USERS)
    counts = np.where(kinds == 2, rng.integers(1, 3, len(kinds)), 0)
    flat = FlatHistories(
        offsets=np.arange(NUM_USERS + 1) * 12,
        item_index=np.where(kinds == 2, 0, rng.integers(1, NUM_ITEMS, len(kinds))),
        event_type=kinds,
        timestamp=np.arange(len(kinds)),
        value=np.zeros(len(kinds)),
        returned_at=np.zeros(len(kinds), np.int64),
        user_key=np.array([f"u{u}" for u in range(NUM_USERS)]),
        dwell_s=np.where(kinds == 1, 1.0 + np.arange(len(kinds)), 0).astype(np.float32),
        word_start=np.r_[0, np.cumsum(counts)],
        word=np.arange(1, counts.sum() + 1),
    )
    return inputs_of(table, catalogue, flat, max_length=2)


class Scorer:
    """Right about a user as far as the tier is the true one, about money as far as `spend` is; the brands of
    the items count for all."""

    def __init__(self, inputs: Inputs) -> None:
        self.tier, self.brand = inputs.table.profile[:, 0], inputs.catalogue.categorical_VF[:, 0]

    def __call__(self, inputs: Inputs) -> Judged:
        table, catalogue = inputs.table, inputs.catalogue
        kept = (catalogue.categorical_VF[1:, 0] == self.brand[1:]).float().mean().item()
        ndcg_U = np.where(table.profile[:, 0] == self.tier, 0.5, 0.1) * (0.8 + 0.2 * kept)
        ndcg_U[-5:] = np.nan  # without a target
        return Judged(ndcg_U, table.activity[:, SPEND_COLUMN])


def found(inputs: Inputs, *features: Feature, seed: int = 0) -> dict[str, Any]:
    table = inputs.table
    actual = table.activity[:, SPEND_COLUMN] + np.random.default_rng(0).normal(size=NUM_USERS) ** 2
    return importances(
        Scorer(inputs),
        features,
        inputs=inputs,
        spend_U=np.where(table.prefix_length > 0, actual, np.nan),
        config=ImportanceConfig(num_permutations=2, seed=seed),
    )


def test_what_the_scores_rest_on_stands_above_noise(inputs: Inputs) -> None:
    told = found(inputs, NOISE, BRAND, PRICE, WORD, TIER, SPEND)
    assert {row["name"] for row in told["features"][:2]} == {"spend", "tier"}
    assert told["features"][2]["name"] == "brand"
    assert set(told["only_noise"]) == {"eyes", "log_price", "tokens"}
    assert set(told["candidates_for_drop"]) == {"eyes", "log_price"}
    rows = {row["name"]: row for row in told["features"]}
    assert rows["eyes"][NDCG] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert rows["tier"][NDCG]["low"] > 0.2
    assert (rows["tier"][GINI]["value"], rows["spend"][NDCG]["value"]) == (0.0, 0.0)
    assert rows["spend"][GINI]["low"] > 0.5
    assert told["whole"][NDCG] == pytest.approx(0.5)
    lines = importance_lines(told)
    assert len(lines) == 1 + 6 + 2
    assert lines[-1].endswith("features.drop: [eyes, log_price]") or lines[-1].endswith("[log_price, eyes]")


def test_without_money_only_the_ranking_counts(inputs: Inputs) -> None:
    told = importances(
        lambda inputs: Judged(inputs.table.profile[:, 0] * 0.1),
        [TIER],
        inputs=inputs,
        spend_U=None,
        config=ImportanceConfig(num_permutations=1),
    )
    assert told["whole"][GINI] is None
    assert told["features"][0][GINI] is None
    assert told["only_noise"] == ["tier"]  # a mean over users does not mind who has which value
    assert list(told["not_measured"]) == [GINI]


def test_where_money_was_not_measured_nothing_of_it_is_noise(inputs: Inputs) -> None:
    """Nobody spent: the ranking still tells, but it does not read activity."""
    config, nothing = ImportanceConfig(num_permutations=1), np.zeros(NUM_USERS)
    told = importances(Scorer(inputs), [TIER, NOISE, SPEND], inputs=inputs, spend_U=nothing, config=config)
    assert {row["name"]: row["only_noise"] for row in told["features"]} == {
        "tier": False,
        "eyes": True,
        "spend": None,
    }
    assert told["candidates_for_drop"] == told["only_noise"] == ["eyes"]
    assert told["not_measured"] == {GINI: "nobody was watched, or all who were spent the same"}
    lines = importance_lines(told)
    assert lines[4:6] == [
        "not measured: gini of spend (nobody was watched, or all who were spent the same)",
        "neither useful nor noise, not judged: spend",
    ]
    assert next(line for line in lines if line.startswith("eyes")).endswith("[+0.0000, +0.0000]  -")


def test_where_no_target_was_measured_money_tells(inputs: Inputs) -> None:
    unknown, scorer = np.full(NUM_USERS, np.nan), Scorer(inputs)
    told = importances(
        lambda inputs: Judged(unknown, scorer(inputs).spend_U),
        [TIER, SPEND],
        inputs=inputs,
        spend_U=inputs.table.activity[:, SPEND_COLUMN],
        config=ImportanceConfig(num_permutations=1),
    )
    assert told["not_measured"] == {NDCG: "no user has a target"}
    assert (told["features"][0]["name"], told["only_noise"]) == ("spend", ["tier"])


@pytest.mark.parametrize("spend_U", [None, np.zeros(NUM_USERS), np.full(NUM_USERS, np.nan)])
def test_where_nothing_was_measured_no_feature_is_judged(inputs: Inputs, spend_U: np.ndarray | None) -> None:
    unknown = np.full(NUM_USERS, np.nan)
    with pytest.raises(InputError, match=r"no importance can be measured .*\(ndcg@10: no user has a target"):
        importances(
            lambda inputs: Judged(unknown, None if spend_U is None else inputs.table.activity[:, 0]),
            [TIER, NOISE],
            inputs=inputs,
            spend_U=spend_U,
            config=ImportanceConfig(num_permutations=1),
        )


def test_a_permutation_keeps_what_occurs_and_moves_it(inputs: Inputs) -> None:
    rng = np.random.default_rng(0)
    table, catalogue = inputs.table, inputs.catalogue
    moved = permuted(TIER, inputs, rng).table
    assert permuted(TIER, inputs, rng).catalogue is catalogue
    np.testing.assert_array_equal(np.sort(moved.profile[:, 0]), np.sort(table.profile[:, 0]))
    np.testing.assert_array_equal(moved.profile[:20], table.profile[:20])  # those without a history
    np.testing.assert_array_equal(moved.profile[:, 1], table.profile[:, 1])
    assert (moved.profile[:, 0] != table.profile[:, 0]).any()
    for feature, name in ((BRAND, "categorical_VF"), (PRICE, "numeric_VN"), (WORD, "tokens_VT")):
        dealt = permuted(feature, inputs, rng)
        before, after = getattr(catalogue, name), getattr(dealt.catalogue, name)
        assert dealt.table is table
        assert sorted(after.tolist()) == sorted(before.tolist()) or feature is BRAND
        assert sorted(after[:, 0].tolist()) == sorted(before[:, 0].tolist())
        assert torch.equal(after[0], before[0])
        assert not torch.equal(after, before)
    assert torch.equal(
        permuted(BRAND, inputs, rng).catalogue.categorical_VF[:, 1], catalogue.categorical_VF[:, 1]
    )


def test_what_is_read_are_the_newest_events_before_the_cut(inputs: Inputs) -> None:
    """Of 12 events of each user the first 3 are known, and the last 2 of those are read."""
    histories, known = inputs.histories, np.arange(20, NUM_USERS)
    np.testing.assert_array_equal(np.diff(histories.offsets), np.where(np.arange(NUM_USERS) < 20, 0, 2))
    np.testing.assert_array_equal(histories.timestamp, np.c_[12 * known + 1, 12 * known + 2].ravel())
    np.testing.assert_array_equal(inputs.table.prefix_length[[0, 20]], [0, 2])
    assert histories.word_start is not None
    has_words = np.diff(histories.word_start) > 0
    np.testing.assert_array_equal(has_words, np.tile([True, False], len(known)))


def test_dwell_and_words_go_to_other_events_that_tell_them(table: CutTable, catalogue: Catalogue) -> None:
    rng = np.random.default_rng(0)
    flat = FlatHistories(
        offsets=np.array([0, 4, 8]),
        item_index=np.ones(8, np.int32),
        event_type=np.ones(8, np.int32),
        timestamp=np.arange(8),
        value=np.zeros(8),
        returned_at=np.zeros(8, np.int64),
        user_key=np.array(["a", "b"]),
        dwell_s=np.array([0, 1, 2, 3, 0, 4, 5, 6], np.float32),
        word_start=np.array([0, 2, 2, 2, 3, 6, 6, 6, 7]),
        word=np.array([1, 2, 3, 4, 5, 6, 7]),
    )
    two = dataclasses.replace(
        table.rows(slice(20, 22)), user_index=np.array([1, 2]), prefix_length=np.full(2, 4)
    )
    inputs = inputs_of(two, catalogue, flat, max_length=9)
    dealt = permuted(DWELL, inputs, rng).histories
    assert dealt.dwell_s is not None
    assert not dealt.dwell_s[[0, 4]].any()
    assert sorted(dealt.dwell_s) == [0, 0, 1, 2, 3, 4, 5, 6]
    assert dealt.dwell_s.tolist() != flat.dwell_s.tolist()
    assert dealt.word is inputs.histories.word

    def searches(histories: FlatHistories) -> list[list[int]]:
        assert histories.word_start is not None
        assert histories.word is not None
        return [each.tolist() for each in np.split(histories.word, histories.word_start[1:-1])]

    assert searches(inputs.histories) == [[1, 2], [], [], [3], [4, 5, 6], [], [], [7]]
    told = searches(permuted(QUERY, inputs, rng).histories)
    assert [each for each in range(8) if told[each]] == [0, 3, 4, 7]
    assert sorted(told) == sorted(searches(inputs.histories))
    assert told != searches(inputs.histories)


def test_a_seed_gives_the_same_figures_again(inputs: Inputs) -> None:
    first = found(inputs, TIER, SPEND)
    assert found(inputs, TIER, SPEND) == first
    assert found(inputs, TIER, SPEND, seed=1) != first


def test_features_are_those_of_the_metadata() -> None:
    metadata = {
        "profile_fields": [{"name": "country", "size": 3}],
        "item_fields": [{"name": "brand", "size": 3}, {"name": "price_band", "size": 3}],
        "item_numeric": ["log_price"],
        "num_tokens": 7,
    }
    activity = (*UserNumeric.ALL, *UserNumeric.GRAPH)
    named = {
        feature.name: feature
        for feature in features_of(metadata, activity_names=activity, event_columns=["query"])
    }
    assert list(named) == ["country", "brand", "price_band", "log_price", "tokens", "query", *activity]
    assert named["num_followers"] == Feature(name="num_followers", kind=ACTIVITY, column=len(activity) - 1)
    assert named["price_band"] == Feature(name="price_band", kind=FIELD, column=1)
    assert [name for name, one in named.items() if one.can_be_dropped] == list(named)[:4]
    few = features_of({**metadata, "num_tokens": 0})
    assert [feature.name for feature in few] == ["country", "brand", "price_band", "log_price"]


def test_settings_check_themselves() -> None:
    with pytest.raises(InputError, match=r"importance\.num_permutations=0 does not fit"):
        ImportanceConfig(num_permutations=0)


def test_the_command_ranks_the_features_of_a_bundle(
    tiny_bundle: Path, tiny_root: Path, tmp_path: Path
) -> None:
    settings = ("bundle=tiny", f"output_dir={tmp_path}", "importance.num_permutations=1")
    done = tiny.run("-m", "recsys", "importance", *settings, cwd=tiny_root)
    written = json.loads((tmp_path / "importance.json").read_text())
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["only_noise"] == written["only_noise"]
    names = {row["name"] for row in written["features"]}
    assert {"country", "category", "price_band", "log_price", "tokens", "recency_days"} <= names
    assert (written["scored_at"], written["horizon_days"], written["num_permutations"]) == ("test", 90, 1)
    assert 0 < written["whole"][NDCG] < 1
    assert written["not_measured"] == {}
    refused = tiny.run("-m", "recsys", "importance", *settings, "split=validation", cwd=tiny_root, code=2)
    assert "the model has learned until" in refused.stderr
