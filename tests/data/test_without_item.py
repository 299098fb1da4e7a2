"""Events without an item are part of a history and of nothing that is counted, drawn or asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recsys.batch import NextItems, TrainBatch
from recsys.data.collate import predict_batch, train_batch
from recsys.data.cooccurrence import cooccurrence_vectors, neighbours
from recsys.data.cut_features import CutScaler, raw_cut_features
from recsys.data.popularity import popularity_at
from recsys.data.sample_config import SampleConfig
from recsys.data.samples import TrainingSamples
from recsys.evaluation.views import seen_and_targets
from recsys.known_events import interactions_until
from recsys.schema import PAD
from tests.data.shop import DAY, PURCHASE, VIEW, Event, Shop, many_users

SEARCH = VIEW  # of this shop's types: no target


def with_searches(shop: Shop, *, kind: int = SEARCH) -> Shop:
    """Before every event of the shop its user searched for something, half a day earlier."""
    events = []
    for event in shop.events:
        search = event._replace(
            item=PAD, kind=kind, day=event.day - 0.0005, words=(3, event.item % 8), value=0
        )
        events += [search, event]
    return Shop(events, shop.num_users, is_time_split=shop.is_time_split)


def samples_of(shop: Shop, **config: Any) -> TrainingSamples:
    settings = SampleConfig(**({"dated_query_share": 1.0} | config))
    return TrainingSamples(tables=shop, fit_until="validation", config=settings)  # type: ignore[arg-type]


def batch_of(samples: TrainingSamples) -> TrainBatch:
    rows = np.arange(len(samples))
    return train_batch(samples, rows, total_weight=1.0, total_cuts=1, position=(0, 1), seed=0)


# Of a type that is a target as well: no table has such rows, and yet they would not count.
@pytest.mark.parametrize("kind", [SEARCH, PURCHASE])
def test_counts_vectors_and_neighbours_are_those_without_them(kind: int) -> None:
    shop = many_users()
    searched = with_searches(shop, kind=kind)
    times = np.array([40, 60]) * DAY
    np.testing.assert_array_equal(popularity_at(searched, times), popularity_at(shop, times))  # type: ignore[arg-type]
    plain, other = samples_of(shop), samples_of(searched)
    np.testing.assert_array_equal(cooccurrence_vectors(other, width=4), cooccurrence_vectors(plain, width=4))
    for one, two in zip(*(neighbours(each, num_neighbours=3) for each in (plain, other)), strict=True):
        np.testing.assert_array_equal(one, two)
    assert other.target_mask.sum() == plain.target_mask.sum()
    assert not other.target_mask[np.asarray(other.histories.item_index) == PAD].any()


@pytest.mark.parametrize("kind", [SEARCH, PURCHASE])
def test_they_are_never_asked_for(kind: int) -> None:
    searched = with_searches(many_users(), kind=kind)
    assert (batch_of(samples_of(searched)).items.target_item_P > PAD).all()  # type: ignore[union-attr]
    in_order = with_searches(Shop(many_users().events, 21, is_time_split=False), kind=kind)
    items = batch_of(samples_of(in_order)).items
    assert isinstance(items, NextItems)
    assert len(items.target_N)
    assert (items.target_N > PAD).all()


def test_they_are_no_candidates_and_never_drawn() -> None:
    samples = samples_of(with_searches(many_users()), num_negatives=8)
    candidates = batch_of(samples).candidates
    assert candidates is not None
    item_V = candidates.catalogue.item_V
    assert item_V.tolist() == sorted(set(item_V.tolist()))
    assert (item_V[candidates.drawn_K] > PAD).all()
    assert torch.isinf(candidates.log_weight_V[item_V == PAD]).all()


def test_seen_items_targets_and_what_baselines_read_are_those_without_them() -> None:
    shop = many_users()
    searched: Any = with_searches(shop)
    for one, other in zip(
        *(seen_and_targets(each, each.at_cut(split="test")) for each in (shop, searched)),  # type: ignore[arg-type]
        strict=True,
    ):
        assert one.values.tolist() == other.values.tolist()
        assert one.offsets.tolist() == other.offsets.tolist()
    searched.metadata |= {"event_types": {"purchase": 1, "search": 3}}
    interactions = interactions_until(searched, searched.at_cut(split="test"))
    assert not interactions.is_target[interactions.item_index == PAD].any()


def test_words_and_dwell_lie_at_the_places_of_their_events() -> None:
    events = [
        Event(1, 1, 4, kind=VIEW, dwell_s=12.5),
        Event(1, 2, PAD, kind=SEARCH, words=(5, 6)),
        Event(1, 3, 7),
        Event(2, 4, PAD, kind=SEARCH, words=(8,)),
    ]
    shop = Shop(events, 2)
    table = shop.at_cut(split="test")
    scaler = CutScaler.fit(lambda: [raw_cut_features(table.activity)])
    batch = predict_batch(shop.histories, table, np.array([1, 0]), scaler=scaler, max_length=200)
    histories = batch.histories
    assert histories.item_BL.tolist() == [[PAD, PAD, PAD], [4, PAD, 7]]
    assert histories.length_B.tolist() == [1, 3]
    assert histories.dwell_BL is not None
    assert histories.words is not None
    assert histories.dwell_BL.tolist() == [[0, 0, 0], [12.5, 0, 0]]
    assert histories.words.place_K.tolist() == [0, 4, 4]
    assert histories.words.word_K.tolist() == [8, 5, 6]
    newest = predict_batch(shop.histories, table, np.array([0]), scaler=scaler, max_length=1).histories
    assert newest.words is not None
    assert newest.words.word_K.tolist() == []
