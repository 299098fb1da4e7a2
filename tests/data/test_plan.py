"""The order of training: each sample once, whatever the ranks, and the same next sample after a stop."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from recsys.batch import TrainBatch
from recsys.data.plan import BatchPlan, ElasticLoader, PlanConfig
from recsys.data.sample_config import SampleConfig
from recsys.data.samples import TrainingSamples
from recsys.schema import InputError
from tests.data.shop import many_users, tensors

CONFIG = PlanConfig(tokens=48, multiple=4, block=3, pool_blocks=4, pool_batches=1, seed=5)


@pytest.fixture(scope="module")
def samples() -> TrainingSamples:
    config = SampleConfig(max_length=6, target_window_days=15, dated_query_share=1.0)
    return TrainingSamples(tables=many_users(num_users=30), fit_until="validation", config=config)  # type: ignore[arg-type]


def lengths(count: int = 103) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 30, count)


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_an_epoch_has_every_sample_once(epoch: int) -> None:
    plan = BatchPlan(lengths=lengths(), config=CONFIG)
    batches = list(plan.batches(epoch))
    assert sorted(np.concatenate(batches).tolist()) == list(range(103))
    assert plan.num_batches(epoch) == len(batches)


def test_batches_keep_to_their_budget_and_multiple() -> None:
    length = lengths()
    for rows in BatchPlan(lengths=length, config=CONFIG).batches(0):
        assert len(rows) <= 4 or len(rows) * length[rows].max() <= 48
        assert len(rows) % 4 == 0 or len(rows) < 16  # only the last of a pool may be ragged
    capped = BatchPlan(lengths=np.zeros(50, int), config=replace(CONFIG, max_rows=8))
    assert max(len(rows) for rows in capped.batches(0)) == 8


@pytest.mark.parametrize("tokens", [1_000, 10_000])
def test_short_rows_leave_little_padding_in_large_batches(tokens: int) -> None:
    length = np.random.default_rng(0).lognormal(np.log(6), 0.7, 100_000).round().astype(int) + 1

    def padding(config: PlanConfig) -> float:
        batches = list(BatchPlan(lengths=length, config=config).batches(0))
        return 1 - length.sum() / sum(len(rows) * int(length[rows].max()) for rows in batches)

    assert padding(PlanConfig(tokens=tokens)) < 0.06
    assert padding(PlanConfig(tokens=10_000, pool_batches=1)) > 0.2


@pytest.mark.parametrize("least", [1, 10, 40])
def test_where_events_are_few_batches_are_smaller(least: int) -> None:
    length, config = lengths(2003), replace(CONFIG, block=64, pool_blocks=64)
    plan = BatchPlan(lengths=length, config=replace(config, tokens=50_000, least_batches=least))
    assert least <= plan.num_batches(0) <= 2 * least + 2
    usual = BatchPlan(lengths=length, config=config)
    small = BatchPlan(lengths=length, config=replace(config, least_batches=least))
    assert small.num_batches(0) == usual.num_batches(0), "batches of 48 events are small enough"


def test_the_order_follows_seed_and_epoch_alone() -> None:
    def order(config: PlanConfig, epoch: int) -> list[int]:
        return np.concatenate(list(BatchPlan(lengths=lengths(), config=config).batches(epoch))).tolist()

    assert order(CONFIG, 1) == order(CONFIG, 1)
    assert order(CONFIG, 1) != order(CONFIG, 2)
    assert order(CONFIG, 1) != order(replace(CONFIG, seed=6), 1)


def test_an_epoch_can_start_at_any_batch() -> None:
    plan = BatchPlan(lengths=lengths(), config=CONFIG)
    whole = [rows.tolist() for rows in plan.batches(3)]
    for start in range(len(whole) + 1):
        assert [rows.tolist() for rows in plan.batches(3, start)] == whole[start:]


def rows_of(batch: TrainBatch) -> list[float]:
    """The value of each row's first event, which the shop makes unique."""
    return batch.histories.value_BL[:, 0].tolist()


def stream(samples: TrainingSamples, **where: Any) -> ElasticLoader:
    return ElasticLoader(samples=samples, config=CONFIG, **where)


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (4, 1), (1, 2), (2, 2), (3, 1), (3, 2), (8, 3)])
def test_ranks_and_accumulation_share_the_same_global_batches(
    samples: TrainingSamples, world: int, accumulate: int
) -> None:
    alone = stream(samples)
    steps = len(alone) + 3  # into the second epoch
    expected = [(sorted(rows_of(b)), b.total_weight, b.total_cuts, b.position) for b in islice(alone, steps)]
    ranks = [
        list(islice(stream(samples, rank=rank, world=world, accumulate=accumulate), steps * accumulate))
        for rank in range(world)
    ]
    for step, (rows, weight, cuts, position) in enumerate(expected):
        parts = [b for rank in ranks for b in rank[step * accumulate : (step + 1) * accumulate]]
        assert sorted(row for b in parts for row in rows_of(b)) == rows
        assert {(b.total_weight, b.total_cuts, b.position) for b in parts} == {(weight, cuts, position)}
        sizes = [len(rows_of(b)) for b in parts]
        assert max(sizes) - min(sizes) <= 1


def test_totals_are_those_of_the_global_batch(samples: TrainingSamples) -> None:
    for batch in islice(stream(samples), 10):
        assert batch.total_weight == pytest.approx(batch.items.weight_Q.sum().item(), rel=1e-5)
        assert batch.total_cuts == int(batch.cuts.mask_BC.sum())


def assert_same(one: TrainBatch, other: TrainBatch) -> None:
    assert one.position == other.position
    first, second = ([*tensors(b.histories), *b.items, *b.cuts] for b in (one, other))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop", [3, "end", "beyond"])
def test_a_stopped_run_goes_on_with_the_same_next_sample(
    samples: TrainingSamples, stop: int | str, num_workers: int
) -> None:
    steps = len(stream(samples))
    after = stop if isinstance(stop, int) else {"end": steps, "beyond": steps + 2}[stop]
    whole = list(islice(stream(samples), after + 4))
    first = stream(samples, num_workers=num_workers)
    list(islice(first, after))
    resumed = stream(samples)
    resumed.load_state_dict(first.state_dict())
    for one, other in zip(islice(resumed, 4), whole[after:], strict=True):
        assert_same(one, other)


def test_a_run_goes_on_with_other_ranks(samples: TrainingSamples) -> None:
    whole = list(islice(stream(samples), 9))
    first = stream(samples, rank=1, world=2, accumulate=2)
    list(islice(first, 5 * 2))
    ranks = [stream(samples, rank=rank, world=4) for rank in range(4)]
    for rank in ranks:
        rank.load_state_dict(first.state_dict())
    for parts, batch in zip(zip(*(islice(rank, 4) for rank in ranks), strict=True), whole[5:], strict=True):
        assert sorted(row for part in parts for row in rows_of(part)) == sorted(rows_of(batch))


def test_the_state_between_micro_batches_is_the_last_whole_batch(samples: TrainingSamples) -> None:
    loader = stream(samples, accumulate=2)
    list(islice(loader, 3))
    assert loader.state_dict()["done"] == 1


def test_the_next_epoch_goes_on_where_the_last_one_ended(
    samples: TrainingSamples,
) -> None:
    loader, whole = stream(samples), stream(samples)
    expected = list(islice(whole, 2 * len(whole)))
    got = [*islice(loader, len(loader)), *islice(loader, len(loader))]
    for one, other in zip(got, expected, strict=True):
        assert_same(one, other)


def test_other_settings_are_refused(samples: TrainingSamples) -> None:
    loader = stream(samples)
    for name, value in {"plan": {}, "table_version": "v2", "num_samples": 3}.items():
        with pytest.raises(InputError, match=f"another {name}.*new run"):
            loader.load_state_dict(loader.state_dict() | {name: value})
    other = ElasticLoader(samples=samples, config=replace(CONFIG, seed=6))
    with pytest.raises(InputError, match=r"another plan \(seed=5, now 6\)"):
        other.load_state_dict(loader.state_dict())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dated_query_share": 0.5}, r"another samples \(dated_query_share=1.0, now 0.5\)"),
        ({"max_targets": 3, "num_negatives": 50}, r"max_targets=64, now 3; num_negatives=10000, now 50"),
        ({"fit_until": "test"}, r"another fit_until \(validation, now test\)"),
        ({"fingerprint": "f" * 64}, r"another table_fingerprint \(0{64}, now f{64}\)"),
    ],
)
def test_samples_made_otherwise_are_refused(
    samples: TrainingSamples, changes: dict[str, Any], said: str
) -> None:
    """Each of them may leave the number of samples and the plan as they are."""
    tables: Any = many_users(num_users=30)
    tables.fingerprint = changes.pop("fingerprint", tables.fingerprint)
    fit_until = changes.pop("fit_until", "validation")
    config = replace(samples.config, **changes)
    other = stream(TrainingSamples(tables=tables, fit_until=fit_until, config=config))
    with pytest.raises(InputError, match=said):
        other.load_state_dict(stream(samples).state_dict())


def test_a_checkpoint_that_does_not_tell_its_samples_is_refused(samples: TrainingSamples) -> None:
    loader = stream(samples)
    old = {name: value for name, value in loader.state_dict().items() if name != "samples"}
    with pytest.raises(InputError, match=r"another samples \(None, now "):
        loader.load_state_dict(old)


def test_workers_ignore_the_signal_that_slurm_sends_to_all(samples: TrainingSamples) -> None:
    """They inherit the trainer's handler, or else the signal's default, which ends them."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    try:
        batches = iter(ElasticLoader(samples=samples, config=CONFIG, num_workers=1))
        next(batches)  # the worker is up
        (worker,) = multiprocessing.active_children()
        for _ in range(10):  # more than are read ahead
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGUSR1)
            next(batches)
        assert worker.is_alive()
    finally:
        signal.signal(signal.SIGUSR1, before)
