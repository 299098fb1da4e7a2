"""The module: one loss whatever the ranks, and a stopped run ends where an unbroken one does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.batch import Catalogue, NextItems
from recsys.data.datamodule import UserDataModule
from recsys.data.plan import ElasticLoader, PlanConfig
from recsys.data.sample_config import SampleConfig
from recsys.data.samples import TrainingSamples
from recsys.module import ObjectiveConfig, UserModule
from recsys.nn.item_tower import ItemTowerConfig
from recsys.schema import InputError
from recsys.training import AdamW, WarmupCosine
from tests.data.shop import many_users
from tests.nn.small_model import catalogue, small_model

PLAN = PlanConfig(tokens=64, multiple=4, block=4, pool_blocks=4, pool_batches=1)


def samples_of(*, has_time: bool = True, **config: Any) -> TrainingSamples:
    config = {"max_length": 8, "target_window_days": 15} | config
    shop = many_users(num_users=30)
    return TrainingSamples(
        tables=shop if has_time else replace(shop, is_time_split=False),  # type: ignore[arg-type]
        fit_until="validation",
        config=SampleConfig(**config),
    )


@pytest.fixture(scope="module")
def samples() -> TrainingSamples:
    return samples_of()


def all_learned(items: Catalogue) -> Catalogue:
    """Every item may be a target here (others are left out of the softmax); 20 weeks of popularity."""
    return items._replace(
        in_training_V=torch.arange(len(items.in_training_V)) > 0,
        popularity_TVW=items.popularity_TVW.repeat(20, 1, 1),
    )


def module(*, dropout: float = 0.0, has_time: bool = True, **parts: Any) -> UserModule:
    tower = ItemTowerConfig(
        capacity=24, field_sizes=(4,), num_numeric=1, num_tokens=20, width=8, id_dropout=0.0
    )
    changes: dict[str, Any] = {"item_tower": tower, "dropout": dropout, "user_dropout": dropout}
    if not has_time:
        changes |= {"has_time": False, "repeats": False, "value_heads": None}
    return UserModule(
        model=small_model(**changes).train(dropout > 0),
        catalogue=all_learned(catalogue(num_items=20)),
        objective=ObjectiveConfig(),
        optimizer=AdamW(lr=0.01),
        scheduler=WarmupCosine(warmup_steps=2),
        **parts,
    )


@pytest.mark.parametrize("has_time", [True, False])
@pytest.mark.parametrize("num_negatives", [5, 1000])
@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 2), (2, 2)])
def test_the_parts_of_ranks_and_micro_batches_add_up(
    num_negatives: int, world: int, accumulate: int, has_time: bool
) -> None:
    torch.manual_seed(0)
    samples = samples_of(has_time=has_time, num_negatives=num_negatives)
    assert (samples.negatives is not None) == (num_negatives == 5)
    judged = module(has_time=has_time)

    def parts(**where: int) -> list[dict[str, float]]:
        loader = ElasticLoader(samples=samples, config=PLAN, **where)
        batches = islice(loader, 3 * where.get("accumulate", 1))
        return [{name: float(part) for name, part in judged.losses(batch).items()} for batch in batches]

    with torch.no_grad():
        alone = parts()
        ranks = [parts(rank=rank, world=world, accumulate=accumulate) for rank in range(world)]
    for step, whole in enumerate(alone):
        shares = [share for rank in ranks for share in rank[step * accumulate : (step + 1) * accumulate]]
        for name, value in whole.items():
            assert sum(share.get(name, 0.0) for share in shares) == pytest.approx(value, rel=1e-4), name
        assert set(whole) == {"items"} | ({"spend", "retention", "conversion"} if has_time else set())


@torch.no_grad()
def test_the_next_items_are_told_by_the_scores_that_are_shown() -> None:
    judged = module(has_time=False)
    batch = next(iter(ElasticLoader(samples=samples_of(has_time=False), config=PLAN)))
    items, items_seen = batch.items, judged.catalogue
    assert isinstance(items, NextItems)
    assert items_seen is not None
    L = batch.histories.item_BL.shape[1] + 1
    states = judged.model(batch.histories, items_seen)
    scores = judged.model.item_scores(
        states, batch.histories, items_seen, items.position_N // L, items.position_N % L
    )
    expected = F.cross_entropy(judged.model.item_logits(scores), items.target_N, reduction="sum")
    found = judged.losses(batch)["items"]
    assert float(found) * batch.total_weight == pytest.approx(float(expected), rel=1e-5)


def test_label_smoothing_is_refused_where_the_next_event_is_the_target() -> None:
    learner = module(has_time=False)
    learner.objective = replace(learner.objective, label_smoothing=0.1)
    batch = next(iter(ElasticLoader(samples=samples_of(has_time=False), config=PLAN)))
    with pytest.raises(InputError, match=r"objective\.label_smoothing=0\.1 is for data sets split by time"):
        learner.losses(batch)


@pytest.mark.parametrize("has_time", [True, False])
def test_rows_without_padding_give_the_same_losses_and_gradients(has_time: bool) -> None:
    learner = module(has_time=has_time)
    batch = next(iter(ElasticLoader(samples=samples_of(has_time=has_time), config=PLAN)))
    told = []
    for histories in (batch.histories, batch.histories.packed()):
        learner.zero_grad()
        loss = sum(learner.losses(batch._replace(histories=histories)).values())
        assert isinstance(loss, Tensor)
        loss.backward()
        told.append([loss.detach(), *(p.grad.clone() for p in learner.parameters() if p.grad is not None)])
    for padded, packed in zip(*told, strict=True):
        torch.testing.assert_close(packed, padded, rtol=1e-4, atol=1e-5)


# few draws of few items spread: the mean of a logarithm lies below the logarithm of the mean
@pytest.mark.parametrize(("has_time", "near"), [(True, 0.03), (False, 0.1)])
def test_a_loss_over_drawn_items_is_near_that_over_all(has_time: bool, near: float) -> None:
    judged = module(has_time=has_time)

    def items(num_negatives: int) -> list[float]:
        samples = samples_of(has_time=has_time, num_negatives=num_negatives)
        loader = ElasticLoader(samples=samples, config=PLAN)
        with torch.no_grad():
            return [float(judged.losses(batch)["items"]) for batch in islice(loader, 40)]

    whole, few, many = items(1000), items(10), items(19)
    error_few, error_many = (
        sum(abs(a - b) for a, b in zip(part, whole, strict=True)) / len(whole) for part in (few, many)
    )
    assert error_many < error_few
    assert sum(few) == pytest.approx(sum(whole), rel=near)


class StopAt(pl.Callback):
    """Saves and stops after so many steps, in the middle of whatever epoch it is."""

    def __init__(self, *, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


def fit(
    samples: TrainingSamples,
    *,
    steps: int,
    stop: StopAt | None = None,
    resume: Path | None = None,
    trainer_settings: dict[str, Any] | None = None,
    more: Sequence[pl.Callback] = (),
    **parts: Any,
) -> UserModule:
    pl.seed_everything(0, verbose=False)
    trained = module(**parts)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=[*more, *([stop] if stop else [])],
        **(trainer_settings or {}),
    )
    trainer.fit(trained, datamodule=UserDataModule(samples=samples, plan=PLAN), ckpt_path=resume)
    return trained


@pytest.mark.parametrize("after", [-3, 0, 2])
def test_a_stopped_run_ends_where_an_unbroken_one_does(
    samples: TrainingSamples, tmp_path: Path, after: int
) -> None:
    epoch_steps = len(ElasticLoader(samples=samples, config=PLAN))
    steps, path = epoch_steps + 5, tmp_path / "stopped.ckpt"
    unbroken = fit(samples, steps=steps)
    fit(samples, steps=steps, stop=StopAt(step=epoch_steps + after, path=path))
    resumed = fit(samples, steps=steps, resume=path)
    for name, weight in unbroken.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], weight, atol=1e-6, rtol=1e-5)


class Rates(pl.Callback):
    """Learning rate of each step."""

    def __init__(self) -> None:
        self.rates = list[float]()

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_a_longer_run_goes_on_with_its_own_schedule(samples: TrainingSamples, tmp_path: Path) -> None:
    """From the step after: the one at hand still has the rate that was saved."""
    path, whole, rest = tmp_path / "stopped.ckpt", Rates(), Rates()
    fit(samples, steps=20, more=[whole])
    fit(samples, steps=10, stop=StopAt(step=6, path=path))
    fit(samples, steps=20, resume=path, more=[rest])
    assert rest.rates[1:] == pytest.approx(whole.rates[7:])
    assert rest.rates[0] < whole.rates[6]


def test_training_lowers_the_loss_and_judges_each_epoch(samples: TrainingSamples) -> None:
    seen: list[bool] = []

    def judge(model: torch.nn.Module) -> dict[str, float]:
        seen.append(model.training)
        return {"figure": 1.0}

    batches = list(islice(ElasticLoader(samples=samples, config=PLAN), 8))
    steps = 3 * len(ElasticLoader(samples=samples, config=PLAN))
    trained = fit(samples, steps=steps, evaluate=judge)

    def loss(of: UserModule) -> float:
        of.eval()
        with torch.no_grad():
            return sum(float(sum(of.losses(batch).values())) for batch in batches)

    torch.manual_seed(0)
    assert loss(trained) < 0.95 * loss(module())
    assert seen == [False, False, False], "judged in evaluation mode, once an epoch"


def test_a_fused_step_is_clipped_in_bf16(samples: TrainingSamples) -> None:
    """A clip to almost nothing leaves a step of AdamW as it is, and one within its epsilon near nothing."""
    start = module().model.state_dict()

    def moved(clip: float) -> float:
        settings = {"precision": "bf16-mixed", "gradient_clip_val": clip}
        weights = fit(samples, steps=1, trainer_settings=settings).model.state_dict()
        return max(float((weights[name] - weight).abs().max()) for name, weight in start.items())

    assert moved(1.0) > 1e-3
    assert moved(1e-12) < 1e-4


def test_only_matrices_and_tables_decay() -> None:
    judged = module()
    judged.trainer = type("T", (), {"estimated_stepping_batches": 10})()  # type: ignore[assignment]
    decay, plain = judged.configure_optimizers()["optimizer"].param_groups
    assert {p.ndim for p in plain["params"]} <= {0, 1}
    assert plain["weight_decay"] == 0 < decay["weight_decay"]
    assert min(p.ndim for p in decay["params"]) == 2
    assert len(plain["params"]) + len(decay["params"]) == len(list(judged.model.parameters()))
