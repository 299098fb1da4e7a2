"""What a checkpoint of any kind holds is what the ranks had when they wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from recsys.parallel.weights import weights_of
from tests.parallel.ranks import on_ranks
from tests.test_module import module

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]
KINDS: dict[str, dict[str, Any]] = {
    **{kind: {"strategy": kind} for kind in ("ddp", "zero1", "zero2", "zero3")},
    "ddp sharded": {"strategy": "ddp", "table_optimizer": "sparse_adam"},
    "zero3 sharded": {"strategy": "zero3", "table_optimizer": "rowwise_adagrad"},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """(checkpoint, weights on the first rank when it was written) by kind."""
    pytest.importorskip("deepspeed")
    place = tmp_path_factory.mktemp("weights")
    paths = {kind: place / f"{kind}.ckpt" for kind in KINDS}
    cases = [
        {"function": "tests.parallel.training:train", "optimizer": "adam", "steps": 4}
        | settings
        | {"save": str(paths[kind]), "save_at": 3}
        for kind, settings in KINDS.items()
    ]
    kept = on_ranks(2, cases, place / "ranks")
    return {kind: (paths[kind], ranks[0]["weights"]) for kind, ranks in zip(KINDS, kept, strict=True)}


@pytest.mark.parametrize("kind", KINDS)
def test_it_holds_every_weight(found: dict[str, tuple[Path, dict[str, Any]]], kind: str) -> None:
    checkpoint, expected = found[kind]
    weights = weights_of(checkpoint)
    tables = {"item_tower.lookup", "item_bias"} if "sharded" in kind else set()
    named = {f"{name}.weight" if name in tables else name: tensor for name, tensor in expected.items()}
    assert weights.keys() == named.keys() == module().model.state_dict().keys()
    for name, tensor in named.items():
        torch.testing.assert_close(weights[name], tensor, atol=0, rtol=0, msg=name)
