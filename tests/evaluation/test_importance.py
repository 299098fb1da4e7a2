"""Features that a model rests on, by a judge that is known to use them, and of a trained bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys.batch import Catalogue
from recsys.data.cut_tables import CutTable
from recsys.evaluation.importance import (
    ACTIVITY,
    FIELD,
    GINI,
    NDCG,
    NUMBER,
    PROFILE,
    WORDS,
    Feature,
    ImportanceConfig,
    Judged,
    features_of,
    importance_lines,
    importances,
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


class Scorer:
    """Right about a user as far as the tier is the true one, about money as far as `spend` is; the brands of
    the items count for all."""

    def __init__(self, table: CutTable, catalogue: Catalogue) -> None:
        self.tier, self.brand = table.profile[:, 0], catalogue.categorical_VF[:, 0]
        self.calls = 0

    def __call__(self, table: CutTable, catalogue: Catalogue) -> Judged:
        self.calls += 1
        kept = (catalogue.categorical_VF[1:, 0] == self.brand[1:]).float().mean().item()
        ndcg_U = np.where(table.profile[:, 0] == self.tier, 0.5, 0.1) * (0.8 + 0.2 * kept)
        ndcg_U[-5:] = np.nan  # without a target
        return Judged(ndcg_U, table.activity[:, SPEND_COLUMN])


def found(table: CutTable, catalogue: Catalogue, *features: Feature, seed: int = 0) -> dict[str, Any]:
    actual = table.activity[:, SPEND_COLUMN] + np.random.default_rng(0).normal(size=NUM_USERS) ** 2
    return importances(
        Scorer(table, catalogue),
        features,
        table=table,
        catalogue=catalogue,
        spend_U=np.where(table.prefix_length > 0, actual, np.nan),
        config=ImportanceConfig(num_permutations=2, seed=seed),
    )


def test_what_the_scores_rest_on_stands_above_noise(table: CutTable, catalogue: Catalogue) -> None:
    told = found(table, catalogue, NOISE, BRAND, PRICE, WORD, TIER, SPEND)
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


def test_without_money_only_the_ranking_counts(table: CutTable, catalogue: Catalogue) -> None:
    told = importances(
        lambda table, _: Judged(table.profile[:, 0] * 0.1),
        [TIER],
        table=table,
        catalogue=catalogue,
        spend_U=None,
        config=ImportanceConfig(num_permutations=1),
    )
    assert told["whole"][GINI] is None
    assert told["features"][0][GINI] is None
    assert told["only_noise"] == ["tier"]  # a mean over users does not mind who has which value


def test_a_permutation_keeps_what_occurs_and_moves_it(table: CutTable, catalogue: Catalogue) -> None:
    rng = np.random.default_rng(0)
    moved, same = permuted(TIER, table, catalogue, rng)
    assert same is catalogue
    np.testing.assert_array_equal(np.sort(moved.profile[:, 0]), np.sort(table.profile[:, 0]))
    np.testing.assert_array_equal(moved.profile[:20], table.profile[:20])  # those without a history
    np.testing.assert_array_equal(moved.profile[:, 1], table.profile[:, 1])
    assert (moved.profile[:, 0] != table.profile[:, 0]).any()
    for feature, name in ((BRAND, "categorical_VF"), (PRICE, "numeric_VN"), (WORD, "tokens_VT")):
        same_table, dealt = permuted(feature, table, catalogue, rng)
        before, after = getattr(catalogue, name), getattr(dealt, name)
        assert same_table is table
        assert sorted(after.tolist()) == sorted(before.tolist()) or feature is BRAND
        assert sorted(after[:, 0].tolist()) == sorted(before[:, 0].tolist())
        assert torch.equal(after[0], before[0])
        assert not torch.equal(after, before)
    assert torch.equal(
        permuted(BRAND, table, catalogue, rng)[1].categorical_VF[:, 1], catalogue.categorical_VF[:, 1]
    )


def test_a_seed_gives_the_same_figures_again(table: CutTable, catalogue: Catalogue) -> None:
    first = found(table, catalogue, TIER, SPEND)
    assert found(table, catalogue, TIER, SPEND) == first
    assert found(table, catalogue, TIER, SPEND, seed=1) != first


def test_features_are_those_of_the_metadata() -> None:
    metadata = {
        "profile_fields": [{"name": "country", "size": 3}],
        "item_fields": [{"name": "brand", "size": 3}, {"name": "price_band", "size": 3}],
        "item_numeric": ["log_price"],
        "num_tokens": 7,
    }
    named = {feature.name: feature for feature in features_of(metadata, has_value_heads=True)}
    assert list(named) == ["country", "brand", "price_band", "log_price", "tokens", *UserNumeric.ALL]
    assert named["price_band"] == Feature(name="price_band", kind=FIELD, column=1)
    assert [name for name, one in named.items() if one.can_be_dropped] == list(named)[:4]
    few = features_of({**metadata, "num_tokens": 0}, has_value_heads=False)
    assert [feature.name for feature in few] == ["country", "brand", "price_band", "log_price"]


def test_settings_check_themselves() -> None:
    with pytest.raises(InputError, match=r"importance\.num_permutations=0 does not fit"):
        ImportanceConfig(num_permutations=0)


def test_the_command_ranks_the_features_of_a_bundle(
    tiny_bundle: Path, tiny_root: Path, tmp_path: Path
) -> None:
    settings = ("bundle=tiny", "split=test", f"output_dir={tmp_path}", "importance.num_permutations=1")
    done = tiny.run("-m", "recsys", "importance", *settings, cwd=tiny_root)
    written = json.loads((tmp_path / "importance.json").read_text())
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["only_noise"] == written["only_noise"]
    names = {row["name"] for row in written["features"]}
    assert {"country", "category", "price_band", "log_price", "tokens", "recency_days"} <= names
    assert (written["scored_at"], written["horizon_days"], written["num_permutations"]) == ("test", 90, 1)
    assert 0 < written["whole"][NDCG] < 1
    refused = tiny.run("-m", "recsys", "importance", *settings, "split=validation", cwd=tiny_root, code=2)
    assert "the model has learned until" in refused.stderr
