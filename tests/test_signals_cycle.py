"""A log that tells dwell, queries and a follow graph, through the real commands: tables, bundle, answers."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recsys.bundle import load_bundle
from recsys.bundle_fit import catalogue_for
from recsys.data.cut_features import NUM_CUT_FEATURES, CutScaler
from recsys.data.cut_tables import CutTable
from recsys.data.flat import FlatHistories
from recsys.data.tables import FeatureTables
from recsys.evaluation.permuting import EVENT, Feature, inputs_of, permuted
from recsys.evaluation.scoring import score_users
from recsys.schema import PAD, Column, Impression, Recommendation, Table
from tests import tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NUM_USERS, NUM_ITEMS, DAYS = 60, 20, 150
COLOURS, THINGS = ("red", "blue", "green", "white"), ("mug", "lamp", "bag", "clock", "bell")
YAML = """
name: telling
public_examples: true
has_time: true
events: {{path: {folder}/events.parquet}}
columns:
  user_id: who
  item_id: what
  timestamp: moment
  event_type: kind
  value: paid
  dwell_s: dwell
  query: asked
items:
  source: {{path: {folder}/items.parquet}}
  item_id: what
  text: title
graph:
  source: {{path: {folder}/follows.parquet}}
  user_id: who
  other_id: whom
  timestamp: since
event_types: [view, search, purchase]
event_types_without_item: [search]
target_event_types: [purchase]
split:
  kind: time
  test_days_before_end: 20
  window_days: 14
  train_every_days: 14
  min_train_days: 30
  horizons_days: [7, 14]
quality: {{max_age_days: null}}
"""


def at(day: float) -> datetime:
    return datetime(2024, 1, 1) + timedelta(days=day)


def write_log(folder: Path) -> None:
    """Everyone searches for a thing, looks at some of its items and buys one, every few days."""
    rng = np.random.default_rng(0)
    titles = [f"{COLOURS[v % 4]} {THINGS[v % 5]}" for v in range(NUM_ITEMS)]
    events: list[dict[str, Any]] = []
    for user in range(NUM_USERS):
        for day in np.sort(rng.uniform(0, DAYS, 12)):
            thing = int(rng.integers(5))
            told = {"who": f"u{user}", "kind": "search", "asked": f"a {THINGS[thing]}"}
            events.append(told | {"moment": at(day)})
            for k, item in enumerate(rng.choice(np.arange(NUM_ITEMS)[thing::5], 2)):
                seen = {"who": f"u{user}", "what": f"i{item}", "moment": at(day + (k + 1) / 1000)}
                events.append(seen | {"kind": "view", "dwell": float(rng.exponential(20))})
            events.append(seen | {"kind": "purchase", "paid": 4.0 + item, "moment": at(day + 0.004)})
    schema = pa.schema(
        [(name, pa.string()) for name in ("who", "what", "kind", "asked")]
        + [("moment", pa.timestamp("us")), ("paid", pa.float64()), ("dwell", pa.float64())]
    )
    pq.write_table(pa.Table.from_pylist(events, schema=schema), folder / "events.parquet")
    named = {"what": [f"i{v}" for v in range(NUM_ITEMS)], "title": titles}
    pq.write_table(pa.table(named), folder / "items.parquet")
    follows = [
        {"who": f"u{user}", "whom": f"u{other}", "since": at(float(rng.uniform(0, DAYS)))}
        for user in range(NUM_USERS)
        for other in rng.choice(NUM_USERS, 4)
    ]
    pq.write_table(pa.Table.from_pylist(follows), folder / "follows.parquet")
    (folder / "conf" / "dataset").mkdir(parents=True)
    (folder / "conf" / "dataset" / "telling.yaml").write_text(YAML.format(folder=folder))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("telling")
    write_log(place)
    spark = ("spark.master='local[2]'", "spark.driver_memory=1g", "spark.shuffle_partitions=2")
    named = ("--config-dir", "conf", "dataset=telling")
    tiny.run("-m", "spark_jobs", *named, *spark, cwd=place)
    drawn = ("name=told", "data.samples.num_negatives=10")  # of 20 items: candidates are drawn
    train = [each for each in tiny.TRAIN_OVERRIDES if not each.startswith("dataset=")]
    tiny.run("-m", "recsys", "train", *named, *train, *drawn, cwd=place)
    tiny.run("-m", "recsys", "recommend", *named, "bundle=told", "output_dir=out", cwd=place)
    return place


def version(place: Path) -> Path:
    return (place / "features" / "telling" / Table.LATEST).resolve()


def test_a_bundle_holds_the_sizes_of_what_was_told(place: Path) -> None:
    bundle = load_bundle(place / "models" / "telling" / "told")
    config = bundle.model.config
    assert (config.has_dwell, config.has_queries) == (True, True)
    assert bundle.model.amount.weight.shape[1] == 4
    assert config.value_heads is not None
    assert config.value_heads.num_features == len(bundle.scaler["mean"]) == NUM_CUT_FEATURES + 2
    following, followers = np.array(bundle.scaler["std"])[-2:]
    assert min(following, followers) > 0.1, "edges come one after another"


def test_searches_are_in_the_histories_with_the_words_of_items(place: Path) -> None:
    tables = FeatureTables(tables_dir=version(place), cache_dir=place / "cache")
    flat, types = tables.histories, tables.metadata["event_types"]
    assert flat.word_start is not None
    assert flat.dwell_s is not None
    is_search = np.asarray(flat.event_type) == types["search"]
    assert is_search.sum() == NUM_USERS * 12
    np.testing.assert_array_equal(np.asarray(flat.item_index) == PAD, is_search)
    np.testing.assert_array_equal(np.diff(flat.word_start) > 0, is_search)  # the thing; no item has an "a"
    assert (np.asarray(flat.dwell_s)[np.asarray(flat.event_type) == types["view"]] > 0).mean() > 0.99
    assert not np.asarray(flat.dwell_s)[is_search].any()


def test_only_items_are_recommended(place: Path) -> None:
    answers = pq.read_table(place / "out" / f"{Recommendation.TOP_K}.parquet")
    users = pc.count_distinct(answers[Column.USER_KEY]).as_py()
    assert users == NUM_USERS + 1  # and anyone
    for table in (answers, pq.read_table(place / "out" / "impressions.parquet")):
        assert pc.min(table[Impression.ITEM_INDEX]).as_py() > PAD
        assert table[Impression.ITEM_ID].null_count == 0
    assert np.isfinite(answers[Recommendation.SCORE].to_numpy()).all()


def test_importance_ranks_all_that_was_told(place: Path) -> None:
    named = ("--config-dir", "conf", "dataset=telling", "bundle=told", "output_dir=ranked", "split=test")
    tiny.run("-m", "recsys", "importance", *named, "importance.num_permutations=1", cwd=place)
    found = json.loads((place / "ranked" / "importance.json").read_text())
    rows = {row["name"]: row for row in found["features"]}
    assert {"num_following", "num_followers", "dwell_s", "query"} <= rows.keys()
    assert not {"num_following", "num_followers", "dwell_s", "query"} & set(found["candidates_for_drop"])
    assert rows["num_followers"]["gini"]["value"] != 0


def test_a_model_reads_events_dealt_out_anew(place: Path) -> None:
    """It tells the same of the events that `inputs_of` keeps, and other money of other dwell and words."""
    bundle = load_bundle(place / "models" / "telling" / "told")
    tables = FeatureTables(tables_dir=version(place), cache_dir=place / "cache")
    catalogue, table = catalogue_for(bundle, tables, "test"), tables.at_cut(split="test")

    def spend_UH(table: CutTable, histories: FlatHistories | None) -> np.ndarray:
        scaler = CutScaler(**bundle.scaler)
        chunks = score_users(
            model=bundle.model,
            catalogue=catalogue,
            tables=tables,
            table=table,
            scaler=scaler,
            histories=histories,
        )
        told_UH = np.empty((len(table.user_index), 2))
        for chunk in chunks:
            assert chunk.spend_BH is not None
            told_UH[chunk.rows] = chunk.spend_BH
        return told_UH

    inputs = inputs_of(table, catalogue, tables.histories, max_length=bundle.model.config.max_length)
    own_UH = spend_UH(inputs.table, inputs.histories)
    np.testing.assert_array_equal(own_UH, spend_UH(inputs.table, inputs.histories))
    np.testing.assert_allclose(own_UH, spend_UH(table, None), rtol=1e-6)
    for name in ("dwell_s", "query"):
        feature = Feature(name=name, kind=EVENT, column=None)
        dealt = permuted(feature, inputs, np.random.default_rng(0))
        assert (spend_UH(dealt.table, dealt.histories) != own_UH).mean() > 0.5


def test_it_is_evaluated_beside_baselines_that_know_the_same(place: Path) -> None:
    named = ("--config-dir", "conf", "dataset=telling", "bundle=told", "output_dir=judged")
    tiny.run("-m", "recsys", "evaluate", *named, cwd=place)
    assert json.loads((place / "judged" / "metrics.json").read_text())
