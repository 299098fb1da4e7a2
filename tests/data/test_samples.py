"""What training may learn from, on shops written down by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recsys.batch import NextItems, TrainBatch
from recsys.data import cut_tables, flat
from recsys.data import samples as samples_module
from recsys.data.collate import train_batch
from recsys.data.sample_config import SampleConfig
from recsys.data.samples import TrainingSamples
from recsys.schema import Split
from tests.data.shop import PURCHASE, RETURN, VIEW, Event, Shop, many_users, tensors


def samples_of(shop: Shop, fit_until: str = "validation", **config: Any) -> TrainingSamples:
    """Every query is asked, unless told otherwise."""
    config = {"dated_query_share": 1.0} | config
    return TrainingSamples(tables=shop, fit_until=fit_until, config=SampleConfig(**config))  # type: ignore[arg-type]


def batch_of(samples: TrainingSamples, rows: list[int] | None = None, seed: int = 0) -> TrainBatch:
    picked = np.arange(len(samples)) if rows is None else np.array(rows)
    return train_batch(samples, picked, total_weight=1.0, total_cuts=1, position=(0, 1), seed=seed)


def asked(batch: TrainBatch) -> list[tuple[float, int, set[int]]]:
    """(value of the row's first event, prefix length, target items) of every item query."""
    items = batch.items
    found = []
    for q, (row, length) in enumerate(zip(items.row_Q.tolist(), items.length_Q.tolist(), strict=True)):
        targets = items.target_item_P[items.target_query_P == q].tolist()
        assert len(targets) == len(set(targets))
        found.append((batch.histories.value_BL[row, 0].item(), length, set(targets)))
    return in_order(found)


def in_order(found: list[Any]) -> list[Any]:
    return sorted(found, key=lambda f: (*f[:2], sorted(f[2])))


def by_definition(shop: Shop, boundary_day: float, window_days: int) -> list[tuple[int, int, set[int]]]:
    """(user, prefix length, items): what a user takes in the window after each week's start."""
    wanted = []
    weeks = np.arange(min(e.day for e in shop.events), boundary_day + 1e-9, 7)
    for user in range(1, shop.num_users + 1):
        known = [e for e in shop.events if e.user == user and e.day <= boundary_day]
        for start in weeks:
            length = sum(e.day <= start for e in known)
            window = [e for e in known[length:] if e.day <= start + window_days and e.kind == PURCHASE]
            if window:
                wanted.append((user, length, {e.item for e in window}))
    return in_order(wanted)


@pytest.mark.parametrize("max_length", [2, 4, 5, 200])
def test_every_question_is_asked_once_and_its_targets_are_the_coming_window(max_length: int) -> None:
    shop = many_users()
    samples = samples_of(shop, max_length=max_length, target_window_days=15)
    batch = batch_of(samples)
    offsets = shop.histories.offsets
    found = []
    for first_value, length, targets in asked(batch):
        event = int(first_value) - 1  # the shop numbers its events
        user = int(np.searchsorted(offsets, event, "right"))
        found.append((user, event - int(offsets[user - 1]) + length, targets))
    assert in_order(found) == by_definition(shop, 60, 15)
    assert batch.histories.length_B.max() <= max_length


def test_a_query_in_a_cut_history_knows_at_least_half_a_window() -> None:
    samples = samples_of(many_users(), max_length=6)
    batch = batch_of(samples)
    first = np.asarray(samples.histories.offsets)[samples.user]
    for row, length in zip(batch.items.row_Q.tolist(), batch.items.length_Q.tolist(), strict=True):
        assert length >= 3 or samples.begin[row] == first[row]


def test_windows_by_hand() -> None:
    events = [Event(1, day, item=day, value=day) for day in range(1, 12)]  # 11 events
    batch = batch_of(samples_of(Shop(events, 1), max_length=4))
    windows = [
        row[:n].tolist() for row, n in zip(batch.histories.item_BL, batch.histories.length_B, strict=True)
    ]
    assert windows == [[1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9], [8, 9, 10, 11]]


def test_targets_end_with_the_window_and_with_what_is_known() -> None:
    events = [Event(1, 10, 1), Event(1, 15, 2, kind=VIEW), Event(1, 40, 3), Event(1, 41, 4), Event(1, 61, 5)]
    found = asked(batch_of(samples_of(Shop(events, 1), target_window_days=30)))
    # weeks start on days 10, 17, ... 59
    assert found == [(1, 1, {3}), *[(1, 2, {3, 4})] * 4]


def test_what_was_sent_back_by_the_boundary_is_no_target() -> None:
    events = [
        Event(1, 1, 9),
        Event(1, 10, 1, returned_day=50),
        Event(1, 11, 2, returned_day=70),  # after the boundary: not known yet
        Event(1, 50, 1, value=-1, kind=RETURN),
        Event(1, 70, 2, value=-1, kind=RETURN),
    ]
    found = asked(batch_of(samples_of(Shop(events, 1))))
    assert found == [(1, 1, {2}), (1, 1, {2})]  # on days 1 and 8


def test_items_bought_at_one_moment_are_targets_of_the_moment_before_only() -> None:
    events = [Event(1, 1, 9), *(Event(1, 10, item) for item in (1, 2, 3))]
    found = asked(batch_of(samples_of(Shop(events, 1), inner_query_share=0.0)))
    assert found == [(1, 1, {1, 2, 3})] * 2


def test_inside_a_moment_what_is_known_and_what_is_asked_never_meet() -> None:
    events = [Event(1, 1, 9), *(Event(1, 10, item) for item in range(1, 9))]
    samples = samples_of(Shop(events, 1), inner_query_share=1.0)
    orders = set()
    for seed in range(20):
        batch = batch_of(samples, seed=seed)
        order = batch.histories.item_BL[0].tolist()
        orders.add(tuple(order))
        for _, length, targets in asked(batch):
            assert set(order[:length]) | targets == set(range(1, 10))
            assert not set(order[:length]) & targets
    assert len(orders) > 10, "events of one moment come in a random order"


def test_of_too_many_targets_some_are_drawn() -> None:
    events = [Event(1, 1, 19), *(Event(1, 2 + k / 10, 1 + k) for k in range(12))]
    samples = samples_of(Shop(events, 1), max_targets=5)
    draws = {frozenset(asked(batch_of(samples, seed=seed))[0][2]) for seed in range(10)}
    assert all(len(draw) == 5 for draw in draws)
    assert len(draws) > 1


def test_weights_fade_with_the_age() -> None:
    # boundary on day 60; of the weeks from day 10 on, the first and that of day 38 have targets
    events = [Event(1, 10, 1), Event(1, 12, 2), Event(1, 40, 3), Event(1, 41, 4), Event(1, 42, 5)]
    config = {"target_window_days": 5, "recency_half_life_days": 20, "dated_query_weight": 3.0}
    items = batch_of(samples_of(Shop(events, 1), **config)).items
    weight = dict(zip(items.length_Q.tolist(), items.weight_Q.tolist(), strict=True))
    assert weight == pytest.approx({1: 3 * 0.5 ** (50 / 20), 2: 3 * 0.5 ** (22 / 20)})
    assert not items.discovers_Q.any()


def test_a_query_within_an_order_weighs_the_root_of_its_targets() -> None:
    events = [*(Event(1, 40, item) for item in (1, 2)), Event(1, 41, 3)]
    config = {"recency_half_life_days": 20, "dated_query_share": 0.0, "inner_query_share": 1.0}
    samples = samples_of(Shop(events, 1), **config)
    items = batch_of(samples).items
    assert items.length_Q.tolist() == [1]
    assert items.weight_Q.tolist() == pytest.approx([0.5 * 2**0.5])
    assert items.discovers_Q.all()
    assert samples.weight.tolist() == pytest.approx([0.5 * 2**0.5])


def test_a_share_of_the_queries_asks_anew_each_epoch_however_they_are_dealt() -> None:
    samples = samples_of(many_users(), dated_query_share=0.5)
    config = {"total_weight": 1.0, "total_cuts": 1, "seed": 0}

    def lengths(rows: np.ndarray, epoch: int) -> list[int]:
        return train_batch(samples, rows, position=(epoch, 1), **config).items.length_Q.tolist()

    rows = np.arange(len(samples))
    whole = [lengths(rows, epoch) for epoch in (0, 1)]
    assert whole[0] != whole[1]
    assert 0.4 < len(whole[0]) / len(samples.items.prefix) < 0.6
    assert whole[0] == [n for row in rows for n in lengths(np.array([row]), 0)]


def test_a_part_of_the_catalogue_holds_what_the_batch_names() -> None:
    whole = batch_of(samples_of(many_users()))
    part = batch_of(samples_of(many_users(), num_negatives=4))
    assert whole.candidates is None
    assert part.candidates is not None
    (item_V, *_), log_weight_V, drawn_K = part.candidates
    assert item_V[0] == 0
    assert (item_V.diff() > 0).all()
    assert torch.equal(item_V[part.histories.item_BL], whole.histories.item_BL)
    assert torch.equal(item_V[part.items.target_item_P], whole.items.target_item_P)
    drawn, log_share = samples_of(many_users(), num_negatives=4).negatives.draw(seed=0, epoch=0, step=1)  # type: ignore[union-attr]
    assert item_V[drawn_K].tolist() == drawn.tolist()
    weights = dict(zip(item_V.tolist(), log_weight_V.tolist(), strict=True))
    assert {item: weight for item, weight in weights.items() if weight > -np.inf} == pytest.approx(
        dict(zip(drawn.tolist(), (-log_share).tolist(), strict=True))
    )


def test_cut_queries_belong_to_their_user_and_know_the_events_up_to_the_cut() -> None:
    events = [
        Event(1, 5, 1, 11),
        Event(1, 12, 2, 12),
        Event(2, 15, 3, 21),
        Event(2, 45, 4, 22),
        Event(3, 30, 5, 31),
    ]
    samples = samples_of(Shop(events, 3))
    batch = batch_of(samples)
    cuts = batch.cuts
    found = {
        (batch.histories.value_BL[row, 0].item(), length)
        for row, col in cuts.mask_BC.nonzero().tolist()
        for length in [int(cuts.length_BC[row, col])]
    }
    # cuts on days 20 and 40: user 1 has two events by both, user 2 one by both, user 3 one by the second
    assert found == {(11.0, 2), (21.0, 1), (31.0, 1)}
    assert cuts.mask_BC.sum(1).tolist() == [2, 2, 1]
    assert samples.num_cuts.tolist() == [2, 2, 1]


def test_cut_targets_are_masked_where_the_horizon_ends_after_the_boundary() -> None:
    events = [Event(1, 5, 1, 3.0), Event(1, 44, 2, 10.0), Event(1, 55, 3, 20.0), Event(1, 65, 4, 40.0)]
    cuts = batch_of(samples_of(Shop(events, 1))).cuts
    # cut 20: nothing for 24 days, then 10 within 30 days; cut 40: 10 within a week, 30 days reach day 70 > 60
    assert cuts.observed_BCH[0].tolist() == [[True, True], [True, False]]
    assert cuts.spend_BCH[0, 0].tolist() == [0, 10]
    assert cuts.spend_BCH[0, 1, 0].item() == 10
    assert cuts.observed_days_BC[0].tolist() == [40, 20]
    assert cuts.next_active_days_BC[0].tolist() == pytest.approx([24, 4])
    assert cuts.converted_BC[0].tolist() == [False, True]


def test_a_return_to_the_shop_after_the_boundary_is_not_known() -> None:
    cuts = batch_of(samples_of(Shop([Event(1, 5, 1), Event(1, 61, 2)], 1))).cuts
    assert cuts.next_active_days_BC[0].tolist() == [np.inf, np.inf]
    assert cuts.observed_days_BC[0].tolist() == [40, 20]


def test_the_final_fit_learns_from_the_validation_cut_too() -> None:
    samples = samples_of(Shop([Event(1, 5, 1), Event(1, 70, 2, 8.0)], 1), fit_until="test")
    cuts = batch_of(samples).cuts
    assert cuts.length_BC[0].tolist() == [1, 1, 1]
    assert cuts.observed_BCH[0].tolist() == [[True, True], [True, True], [True, False]]


def after_the_boundary(events: list[Event], day: float) -> list[Event]:
    """Everything after the day is another story, and what was returned after it too."""
    changed = []
    for event in events:
        if event.day > day:
            event = event._replace(
                item=event.item % 20 + 1, value=event.value * 7 + 1, day=event.day + 5, kind=PURCHASE
            )
            event = event._replace(dwell_s=99, words=(7, 7, 7))
        changed.append(event)
        if event.day > day:
            changed.append(event._replace(day=event.day + 1))
    return changed


def test_nothing_after_the_boundary_is_looked_at() -> None:
    shop = many_users()
    other = Shop(after_the_boundary(shop.events, 60), shop.num_users, last_day=150)
    batches = [batch_of(samples_of(s, max_length=6, target_window_days=15)) for s in (shop, other)]
    for told in zip(*(tensors(b.histories) for b in batches), strict=True):
        assert torch.equal(*told)
    for name in batches[0].items._fields:
        assert torch.equal(*(getattr(b.items, name) for b in batches)), name
    observed = batches[0].cuts.observed_BCH
    for name in batches[0].cuts._fields:
        one, two = (getattr(b.cuts, name) for b in batches)
        if name == "spend_BCH":
            one, two = one * observed, two * observed
        if name == "converted_BC":
            one, two = one & observed[..., 0], two & observed[..., 0]
        assert torch.equal(one, two), name


def test_without_time_the_next_event_is_the_target_and_held_out_events_stay_out() -> None:
    events = [Event(1, k, item=k, value=k) for k in range(1, 7)]
    samples = samples_of(
        Shop(events, 1, is_time_split=False), fit_until="validation", recency_half_life_days=0
    )
    batch = batch_of(samples)
    assert next_of(batch) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert batch.histories.item_BL.tolist() == [[1, 2, 3, 4]]
    assert not batch.cuts.mask_BC.any()
    longer = batch_of(samples_of(Shop(events, 1, is_time_split=False), fit_until="test"))
    assert next_of(longer)[-1] == (4, 5)


def test_without_time_only_events_of_a_target_type_are_asked_for() -> None:
    events = [Event(1, k, item=k, kind=VIEW if k in (1, 3) else PURCHASE) for k in range(1, 7)]
    batch = batch_of(samples_of(Shop(events, 1, is_time_split=False)))
    assert next_of(batch) == [(1, 2), (3, 4)]
    assert batch.histories.item_BL.tolist() == [[1, 2, 3, 4]]


def test_users_of_whom_nothing_is_held_out_are_learned_from_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop([*(Event(1, k, item=k) for k in range(1, 7)), Event(2, 1, item=7), Event(2, 2, item=8)], 2)
    shop.is_time_split = False
    of_all = shop.at_cut

    def held_out(*, split: str, cut: int | None = None) -> Any:
        table = of_all(split=split, cut=0 if cut is None else cut)
        return table.rows(slice(0, 1)) if split in Split.HELD_OUT else table

    monkeypatch.setattr(shop, "at_cut", held_out)
    for fit_until, newest in (("validation", 4), ("test", 5)):
        samples = samples_of(shop, fit_until=fit_until)
        known = batch_of(samples, [0]).histories.item_BL[0].tolist(), batch_of(samples, [1])
        assert known[0] == list(range(1, newest + 1))
        assert known[1].histories.item_BL.tolist() == [[7, 8]]
        assert next_of(known[1]) == [(0, 7), (1, 8)]


def next_of(batch: TrainBatch) -> list[tuple[int, int]]:
    """(place, target item) of every position that asks; of a batch of one row."""
    assert isinstance(batch.items, NextItems)
    return list(zip(batch.items.position_N.tolist(), batch.items.target_N.tolist(), strict=True))


@pytest.mark.parametrize("is_time_split", [True, False])
@pytest.mark.parametrize("block_rows", [1, 30, 100])
def test_blocks_of_users_give_what_one_block_gives(
    monkeypatch: pytest.MonkeyPatch, block_rows: int, is_time_split: bool
) -> None:
    events = many_users().events
    events += [e._replace(item=e.item % 20 + 1) for e in events[::3]]  # moments of two events
    events.sort(key=lambda e: (e.user, e.day))
    shops = [Shop(events, 23, is_time_split=is_time_split) for _ in range(2)]  # two users without events
    whole = files_of(samples_of(shops[0], max_length=4))
    assert len(list(shops[1].histories.blocks())) == 1
    monkeypatch.setattr(flat, "BLOCK_ROWS", block_rows)
    monkeypatch.setattr(cut_tables, "_BLOCK", block_rows)
    assert len(list(shops[1].histories.blocks(rows_per_user=9))) >= 4
    in_blocks = files_of(samples_of(shops[1], max_length=4))
    assert in_blocks == whole
    assert {"item_prefix.npy", "cut_features.npy", "scaler.json"} <= set(whole)


def files_of(samples: TrainingSamples) -> dict[str, bytes]:
    (folder,) = samples.tables.cache_dir.iterdir()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_are_built_once_for_each_setting_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = many_users()
    first = samples_of(shop)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("built again")

    with monkeypatch.context() as patch:
        patch.setattr(samples_module, "read_block", never)
        again = samples_of(shop)
        for changed in ({"fit_until": "test"}, {"max_length": 5}, {"inner_query_share": 0.5}):
            with pytest.raises(AssertionError, match="built again"):
                samples_of(shop, **changed)  # type: ignore[arg-type]
    assert np.array_equal(again.items.prefix, first.items.prefix)
    assert not again.items.prefix.flags.writeable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_length": 1}, "at least"),
        ({"max_targets": 0}, "at least"),
        ({"target_window_days": 0}, "target_window_days=0 does not fit; it must be at least 1"),
        ({"inner_query_share": 1.5}, "inner_query_share=1.5 does not fit"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SampleConfig(**change)  # type: ignore[arg-type]
