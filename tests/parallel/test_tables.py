"""Sharded item tables on two real ranks: what they learn is what the replicated table learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.parallel.ranks import on_ranks

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]
HERE = "tests.parallel.table_training"
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"accumulate": 4},
    "clipped": {"clip": 0.1},
    "accumulated and clipped": {"accumulate": 4, "clip": 0.1},
    "bf16": {"precision": "bf16-mixed", "clip": 0.1},  # unclipped SGD would blow rounding up
}
REPLICATED = [("replicated", "ddp", name) for name in SETTINGS]
SHARDED = [("sharded", strategy, name) for strategy in ("ddp", "zero2") for name in SETTINGS]
Runs = dict[tuple[str, str, str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, dict[str, Any]]:
    """(Runs by (table, strategy, setting), what the other cases gave), by rank."""
    pytest.importorskip("deepspeed")
    keys = [*REPLICATED, *SHARDED, ("sharded", "zero3", "accumulated and clipped")]
    runs = [
        {"function": f"{HERE}:train", "table": table, "strategy": strategy} | SETTINGS[name]
        for table, strategy, name in keys
    ]
    others: dict[str, dict[str, Any]] = {"by value": {"function": f"{HERE}:clipped_by_value"}}
    for optimizer in ("sgd", "sparse_adam", "rowwise_adagrad"):
        others[optimizer] = {"function": f"{HERE}:alone", "optimizer": optimizer}
    kept = on_ranks(2, runs + list(others.values()), tmp_path_factory.mktemp("ranks"))
    return dict(zip(keys, kept, strict=False)), dict(zip(others, kept[len(keys) :], strict=True))


def loss(ranks: list[dict[str, Any]]) -> torch.Tensor:
    return torch.tensor([rank["losses"] for rank in ranks]).mean(0)


def assert_same(one: list[dict[str, Any]], other: list[dict[str, Any]], *, atol: float) -> None:
    torch.testing.assert_close(loss(one), loss(other), atol=atol, rtol=0)
    for table in ("lookup", "bias"):
        torch.testing.assert_close(one[0][table], other[0][table], atol=atol, rtol=0)


@pytest.mark.parametrize(
    ("strategy", "name"),
    [(s, n) for _, s, n in SHARDED if n != "bf16"] + [("zero3", "accumulated and clipped")],
)
def test_it_learns_what_the_replicated_table_learns(found: Any, strategy: str, name: str) -> None:
    """With SGD, which hides no error of scale."""
    runs, _ = found
    twin = runs["replicated", "ddp", name]
    assert len(loss(twin)) == 12
    assert_same(runs["sharded", strategy, name], twin, atol=1e-5)


def test_the_comparison_can_fail(found: Any) -> None:
    runs, _ = found
    plain, clipped = (runs["replicated", "ddp", name] for name in ("plain", "clipped"))
    for table in ("lookup", "bias"):
        assert (plain[0][table] - clipped[0][table]).abs().max() > 1e-3, "the clip does not bite"
    accumulated = runs["sharded", "ddp", "accumulated"]  # the same global batches in four parts
    assert_same(accumulated, plain, atol=1e-4)


def test_bf16_is_that_of_the_replicated_table_and_near_fp32(found: Any) -> None:
    runs, _ = found
    assert_same(runs["sharded", "ddp", "bf16"], runs["replicated", "ddp", "bf16"], atol=1e-5)
    exact = runs["replicated", "ddp", "clipped"]
    for strategy in ("ddp", "zero2"):
        ours = runs["sharded", strategy, "bf16"]
        torch.testing.assert_close(loss(ours), loss(exact), atol=0, rtol=0.02)
        torch.testing.assert_close(ours[0]["lookup"], exact[0]["lookup"], atol=1e-3, rtol=0)


def test_each_rank_holds_half(found: Any) -> None:
    runs, others = found
    assert [rank["held"] for rank in runs["sharded", "zero2", "plain"]] == [[13, 13], [12, 12]]  # of 25
    assert [rank["held"] for rank in others["sgd"]] == [501, 500]


def test_clipping_by_value_is_refused(found: Any) -> None:
    assert (
        found[1]["by value"]
        == ["model.table=sharded clips by norm; set trainer.gradient_clip_algorithm=norm"] * 2
    )


def torch_alone(optimizer: str, weight: torch.Tensor) -> torch.Tensor:
    """`table_training.alone` with torch's own optimizers; row-wise Adagrad has none and is spelt out."""
    weight = weight.clone().requires_grad_()
    sums = torch.zeros(len(weight))
    theirs: torch.optim.Optimizer = torch.optim.SGD([weight], lr=0.1)
    if optimizer == "sparse_adam":
        theirs = torch.optim.SparseAdam([weight], lr=0.1, betas=(0.9, 0.98))
    for step in range(5):
        index = torch.randint(len(weight), (40,), generator=torch.Generator().manual_seed(step))
        aim = torch.randn(40, 3, generator=torch.Generator().manual_seed(100 + step))
        got = torch.nn.functional.embedding(index, weight, padding_idx=0, sparse=optimizer == "sparse_adam")
        (got - aim).square().sum().backward()
        if optimizer == "rowwise_adagrad":
            assert weight.grad is not None
            sums += weight.grad.square().mean(1)
            with torch.no_grad():
                weight -= 0.1 * weight.grad / (sums.sqrt() + 1e-8)[:, None]
        else:
            theirs.step()
        weight.grad = None
    return weight.detach()


@pytest.mark.parametrize("optimizer", ["sgd", "sparse_adam", "rowwise_adagrad"])
def test_rows_move_as_torch_moves_them(found: Any, optimizer: str) -> None:
    alone = found[1][optimizer][0]
    assert (alone["end"] - alone["start"]).abs().max() > 0.1
    torch.testing.assert_close(alone["end"], torch_alone(optimizer, alone["start"]), atol=1e-5, rtol=0)
    assert len(found[1][optimizer][1]["end"]) == 0, "only the first rank reads"


@pytest.mark.parametrize("ranks", [(2, 2), (2, 1), (1, 2)], ids=["2 to 2", "2 to 1", "1 to 2"])
def test_a_stopped_run_goes_on_on_other_ranks(tmp_path: Path, ranks: tuple[int, int]) -> None:
    """DDP, whose dense part any number of ranks can read; the order of samples is the plan's."""
    before, after = ranks
    path = str(tmp_path / "stopped.ckpt")
    run = {"function": f"{HERE}:train", "table": "sharded", "strategy": "ddp", "optimizer": "sparse_adam"}
    save = {"save": path, "save_at": 5, "num_ranks": before}
    alone = {"function": f"{HERE}:alone", "optimizer": "sgd", "num_rows": 70_000, "steps": 0}
    unbroken, _, drawn = on_ranks(before, [run | {"num_ranks": before}, run | save, alone], tmp_path / "one")
    resumed, drawn_after = on_ranks(
        after, [run | {"resume": path, "num_ranks": after}, alone], tmp_path / "other"
    )
    torch.testing.assert_close(loss(resumed), loss(unbroken)[5:], atol=1e-5, rtol=0)
    for table in ("lookup", "bias"):
        torch.testing.assert_close(resumed[0][table], unbroken[0][table], atol=1e-5, rtol=0)
    assert torch.equal(drawn[0]["start"], drawn_after[0]["start"]), "rows start alike on any ranks"
    assert drawn[0]["start"][0].tolist() == [0, 0, 0]
