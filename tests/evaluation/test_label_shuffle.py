"""Labels dealt to other users at the training cuts teach nothing: no other way leads to the outcome."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_lightning as pl

from benchmarks.label_shuffle import dealt_cuts, dealt_queries
from recsys.baselines.boosted_trees import WatchedCuts
from recsys.data.cut_queries import CutQueryTable
from recsys.data.datamodule import UserDataModule
from recsys.data.plan import PlanConfig
from recsys.data.sample_config import SampleConfig
from recsys.data.samples import TrainingSamples
from recsys.evaluation.evaluate import estimates_of
from recsys.evaluation.scoring import score_users
from recsys.metrics.value import normalised_gini
from recsys.module import ObjectiveConfig, UserModule
from recsys.nn.item_tower import ItemTowerConfig
from recsys.training import AdamW, WarmupCosine
from recsys.value_start import start_value_heads
from tests.data.shop import Event, Shop
from tests.nn.small_model import catalogue, small_model
from tests.test_module import all_learned


def test_only_labels_move_and_only_among_those_watched() -> None:
    rng = np.random.default_rng(0)
    spend = np.arange(20.0).reshape(10, 2)
    spend[6:, 1] = np.nan
    past = WatchedCuts(rng.random((10, 3)), spend, spend * 2, spend * 3)
    dealt = dealt_cuts(past, rng)
    assert dealt.activity is past.activity
    np.testing.assert_array_equal(np.isnan(dealt.spend), np.isnan(spend))
    np.testing.assert_array_equal(np.sort(dealt.spend, axis=0), np.sort(spend, axis=0))
    assert (dealt.spend[:6] != spend[:6]).any()

    observed = np.isfinite(spend)
    queries = CutQueryTable(
        start=np.array([0, 10]),
        prefix=np.arange(10),
        features=past.activity,
        spend=np.nan_to_num(spend),
        observed=observed,
        next_active_days=np.arange(10.0),
        observed_days=np.arange(10.0) + 50,
        converted=np.arange(10) < 4,
    )
    moved = dealt_queries(queries, rng)
    for same in ("start", "prefix", "features", "observed"):
        assert getattr(moved, same) is getattr(queries, same)
    assert (moved.spend[~observed] == 0).all()
    np.testing.assert_array_equal(moved.observed_days, moved.next_active_days + 50)
    assert moved.converted.sum() == 4
    assert (moved.next_active_days != queries.next_active_days).any()


def shop(num_users: int = 150) -> Shop:
    """Users who buy at their own rate for their own prices, all year."""
    rng = np.random.default_rng(0)
    events = []
    for user in range(1, num_users + 1):
        rate, price = rng.gamma(0.8, 0.08), 5 + rng.gamma(1, 30)
        days = np.sort(rng.uniform(1, 118, 1 + rng.poisson(118 * rate)))
        events += [
            Event(user, round(float(day), 3), int(rng.integers(1, 21)), float(price * rng.gamma(3, 1 / 3)))
            for day in days
        ]
    return Shop(events, num_users)


def trained_gini(tables: Shop, samples: TrainingSamples, seed: int) -> float:
    """Of the spend in the 30 days after the test cut, by a small model trained on the cut queries."""
    tower = ItemTowerConfig(capacity=24, field_sizes=(4,), num_numeric=1, num_tokens=20, width=8)
    items = catalogue(num_items=20)
    pl.seed_everything(seed, verbose=False)
    model = small_model(seed=seed, item_tower=tower)
    assert model.value_heads is not None
    start_value_heads(model.value_heads, samples.cuts, scaler=samples.scaler)
    trained = UserModule(
        model=model,
        catalogue=all_learned(items),
        objective=ObjectiveConfig(),
        optimizer=AdamW(lr=0.01),
        scheduler=WarmupCosine(warmup_steps=2),
    )
    quiet = {f"enable_{part}": False for part in ("progress_bar", "model_summary", "checkpointing")}
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_steps=15, logger=False, num_sanity_val_steps=0, **quiet
    )
    plan = PlanConfig(tokens=512, multiple=4, block=16, pool_blocks=4, pool_batches=1)
    trainer.fit(trained, datamodule=UserDataModule(samples=samples, plan=plan))
    table = tables.at_cut(split="test")
    chunks = score_users(model=model, catalogue=items, tables=tables, table=table, scaler=samples.scaler)  # type: ignore[arg-type]
    spend_UH = estimates_of(list(chunks), tables.num_users).spend_UH
    assert spend_UH is not None
    has = table.prefix_length > 0
    return float(normalised_gini(table.spend[has, 1], spend_UH[has, 1]))


@pytest.mark.slow
def test_the_whole_model_learns_nothing_from_labels_of_other_users() -> None:
    """Over some deals: the features go together, so one deal orders users well or badly, by chance."""
    tables = shop()

    def samples() -> TrainingSamples:
        config = SampleConfig(max_length=16, target_window_days=15)
        return TrainingSamples(tables=tables, fit_until="test", config=config)  # type: ignore[arg-type]

    dealt = []
    for seed in range(10):
        shuffled = samples()
        shuffled.cuts = dealt_queries(shuffled.cuts, np.random.default_rng(seed))
        dealt.append(trained_gini(tables, shuffled, seed))
    error = np.std(dealt, ddof=1) / np.sqrt(len(dealt))
    assert abs(np.mean(dealt)) < 2.5 * error, dealt
    learned = trained_gini(tables, samples(), 0)
    assert learned > 0.5
    assert learned > np.mean(dealt) + 2.5 * error
