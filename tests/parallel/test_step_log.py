"""What steps tell is true of the whole step, whatever the ranks."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from recsys.data.datamodule import UserDataModule
from recsys.data.plan import ElasticLoader
from recsys.parallel.planner.flops import step_flops
from recsys.parallel.planner.sizes import Workload
from recsys.parallel.step_log import StepLog, flops_per_token
from recsys.schema import InputError
from tests.parallel.ranks import on_ranks
from tests.parallel.training import PLAN, Rows
from tests.test_module import module, samples_of

STEPS = 6


def rows_of(*, every: int = 1, steps: int = STEPS, peak_flops: float | None = None) -> list[dict[str, Any]]:
    """One process; the learning rate is that of a warm-up over two steps."""
    pl.seed_everything(0, verbose=False)
    rows = Rows()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        gradient_clip_val=1e-3,
        logger=rows,
        log_every_n_steps=every,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        callbacks=[StepLog(peak_flops=peak_flops)],
    )
    trainer.fit(module(), datamodule=UserDataModule(samples=samples_of(), plan=PLAN))
    return rows.rows


def test_the_first_step_by_hand() -> None:
    row = rows_of()[0]
    batch = next(iter(ElasticLoader(samples=samples_of(), config=PLAN)))
    pl.seed_everything(0, verbose=False)
    judged = module()
    parts = judged.losses(batch)
    weights = {"items": 1.0, "spend": 0.1, "retention": 0.1, "conversion": 0.05}
    loss = sum(weights[name] * part for name, part in parts.items())
    loss.backward()  # type: ignore[union-attr]
    square = sum(p.grad.double().square().sum() for p in judged.parameters() if p.grad is not None)
    for name, part in (parts | {"loss": loss}).items():
        assert row[f"train/{name}"] == pytest.approx(float(part), rel=1e-5)
    assert row["train/gradient_norm"] == pytest.approx(float(square) ** 0.5, rel=1e-5), "before clipping"
    assert row["train/learning_rate"] == pytest.approx(0.01 / 2)
    ratio = int(batch.histories.length_B.sum()) / len(batch.items.target_item_P)
    assert row["speed/tokens_per_s"] / row["speed/targets_per_s"] == pytest.approx(ratio)
    assert 0 < row["speed/data_wait"] < 1
    assert row["speed/memory_gb"] > 0.1
    assert "speed/mfu" not in row
    assert row["step"] == 0


def test_a_row_is_of_the_steps_since_the_one_before() -> None:
    single, paired = rows_of(), rows_of(every=4)
    assert [row["step"] for row in single] == [0, 1, 2, 3, 4, 5]
    assert [row["step"] for row in paired] == [3, 5], "and of what is left in the end"
    mean = sum(row["train/loss"] for row in single[:4]) / 4
    assert paired[0]["train/loss"] == pytest.approx(mean, rel=1e-5)
    assert paired[0]["train/gradient_norm"] == pytest.approx(single[3]["train/gradient_norm"], rel=1e-5)


def test_an_epoch_ends_with_a_row() -> None:
    epoch = len(ElasticLoader(samples=samples_of(), config=PLAN))
    assert epoch > 2
    assert [row["step"] for row in rows_of(every=1000, steps=epoch + 1)] == [epoch - 1, epoch]


def test_utilisation_is_what_a_step_costs_over_what_the_device_could() -> None:
    rows = rows_of(peak_flops=1e9)
    judged = module()
    batches = islice(ElasticLoader(samples=samples_of(), config=PLAN), STEPS)
    for row, batch in zip(rows, batches, strict=True):
        lengths = batch.histories.length_B
        counts = {
            "rows": len(lengths),
            "tokens": int(lengths.sum()),
            "queries": len(batch.items.row_Q),
            "targets": len(batch.items.target_item_P),
            "candidates": 21,
            "cuts": int(batch.cuts.mask_BC.sum()),
            "periods": 20,
        }
        per_token = flops_per_token(judged, counts)
        assert row["speed/mfu"] == pytest.approx(per_token * row["speed/tokens_per_s"] / 1e9, rel=1e-5)


def test_work_of_full_rows_is_the_planners() -> None:
    counts = {"rows": 3, "tokens": 24, "queries": 7, "targets": 9, "candidates": 21, "cuts": 6, "periods": 20}
    judged = module()
    work = Workload(rows=3, events=8, queries=7, targets=9, own=8, candidates=21, cuts=2, periods=20, words=1)
    assert flops_per_token(judged, counts) == pytest.approx(step_flops(judged.model.config, work) / 24)


def test_a_peak_is_above_nothing() -> None:
    with pytest.raises(InputError, match="peak_flops=0 must be above 0"):
        StepLog(peak_flops=0)


@pytest.mark.distributed
@pytest.mark.timeout(900)
def test_ranks_tell_what_one_tells(tmp_path: Any) -> None:
    """Clipping bites, so that the norm would differ after it."""
    pytest.importorskip("deepspeed")
    case = {"function": "tests.parallel.training:told", "steps": STEPS, "accumulate": 2, "clip": 0.01}
    strategies = ("ddp", "zero1", "zero2", "zero3")
    (alone,) = on_ranks(1, [case | {"strategy": "ddp", "num_ranks": 1}], tmp_path / "one")[0]
    two = on_ranks(2, [case | {"strategy": strategy} for strategy in strategies], tmp_path / "two")
    for strategy, ranks in zip(strategies, two, strict=True):
        assert len(ranks[0]) == len(alone) == STEPS
        assert ranks[0][0]["speed/mfu"] > 0
        for row, whole in zip(ranks[0], alone, strict=True):
            for name in ("loss", "items", "spend", "retention", "conversion", "gradient_norm"):
                found, right = row[f"train/{name}"], whole[f"train/{name}"]
                assert found == pytest.approx(right, abs=1e-5, rel=1e-4), (strategy, name)
            one, other = (r["speed/tokens_per_s"] / r["speed/targets_per_s"] for r in (row, whole))
            assert one == pytest.approx(other, rel=1e-5), strategy
    assert torch.tensor([row["train/gradient_norm"] for row in alone]).min() > 0.05
