"""A model that goes on from another says of value, before its first step, what that one says."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys.data.collate import train_batch
from recsys.data.cut_features import CutScaler, raw_cut_features
from recsys.data.sample_config import SampleConfig
from recsys.data.samples import TrainingSamples
from recsys.evaluation.scoring import ScoredUsers, score_users
from recsys.nn.item_tower import ItemTowerConfig
from recsys.nn.user_model import UserModel
from recsys.warm_start import warm_start
from tests.data.shop import many_users
from tests.nn.small_model import catalogue, small_model

SHOP: Any = many_users()
# The champion learned from an earlier cut than the challenger's two: other means, other deviations.
CHAMPION_SCALER = CutScaler.fit(
    lambda: [raw_cut_features(SHOP.at_cut(split="train", cut=20 * 86_400).activity)]
)


def model(seed: int) -> UserModel:
    tower = ItemTowerConfig(capacity=24, field_sizes=(4,), num_numeric=1, num_tokens=20, width=8)
    return small_model(seed=seed, item_tower=tower)


def scored(by: UserModel, scaler: CutScaler) -> ScoredUsers:
    """At the test cut, all users at once."""
    (chunk,) = score_users(
        model=by,
        catalogue=catalogue(num_items=20),
        tables=SHOP,
        table=SHOP.at_cut(split="test"),
        scaler=scaler,
    )
    return chunk


def samples(**scaler: CutScaler) -> TrainingSamples:
    return TrainingSamples(tables=SHOP, fit_until="validation", config=SampleConfig(), **scaler)


def cut_features(of: TrainingSamples) -> np.ndarray:
    """Those of all cut queries, as a batch brings them."""
    rows = np.arange(len(of))
    cuts = train_batch(of, rows, total_weight=1.0, total_cuts=1, position=(0, 1), seed=0).cuts
    return cuts.features_BCR[cuts.mask_BC].numpy()


def test_value_is_as_the_champion_says_before_the_first_step() -> None:
    champion, challenger = model(seed=0), model(seed=1)
    warm_start(challenger, champion.state_dict())
    before = scored(champion, CHAMPION_SCALER)
    after = scored(challenger, samples(scaler=CHAMPION_SCALER).scaler)
    for name in ("spend_BH", "return_BJ", "conversion_B"):
        assert np.array_equal(getattr(before, name), getattr(after, name)), name
    own = scored(challenger, samples().scaler)
    assert not np.allclose(before.conversion_B, own.conversion_B, rtol=1e-3)  # type: ignore[arg-type]


def test_training_sees_the_inputs_in_the_units_of_the_champion() -> None:
    own, carried = samples(), samples(scaler=CHAMPION_SCALER)
    seen, carried_seen = (cut_features(of) for of in (own, carried))
    raw = seen * np.asarray(own.scaler.std) + np.asarray(own.scaler.mean)
    expected = (raw - np.asarray(CHAMPION_SCALER.mean)) / np.asarray(CHAMPION_SCALER.std)
    inside = np.abs(seen) < 5
    np.testing.assert_allclose(carried_seen[inside], np.clip(expected, -5, 5)[inside], rtol=1e-4, atol=1e-4)
