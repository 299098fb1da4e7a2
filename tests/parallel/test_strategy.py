"""Every stage of ZeRO walks where DDP walks, on two real ranks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.parallel.ranks import on_ranks

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]
TRAIN = "tests.parallel.training:train"
SETTINGS = {
    "plain": {},
    "accumulated": {"accumulate": 4},
    "clipped": {"clip": 0.1},
    "accumulated and clipped": {"accumulate": 4, "clip": 0.1},
    "activation checkpointing": {"activation_checkpointing": True},
}


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], torch.Tensor]:
    """(strategy, setting) -> loss of 20 steps, mean over two ranks."""
    pytest.importorskip("deepspeed")
    keys = [(strategy, name) for strategy in ("ddp", "zero1", "zero2", "zero3") for name in SETTINGS]
    cases: list[dict[str, Any]] = [
        {"function": TRAIN, "strategy": strategy} | SETTINGS[name] for strategy, name in keys
    ]
    found = on_ranks(2, cases, tmp_path_factory.mktemp("ranks"))
    return {
        key: torch.tensor([rank["losses"] for rank in ranks]).mean(0)
        for key, ranks in zip(keys, found, strict=True)
    }


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("strategy", ["zero1", "zero2", "zero3"])
def test_losses_are_those_of_ddp(losses: Any, strategy: str, name: str) -> None:
    assert len(losses["ddp", name]) == 20
    torch.testing.assert_close(losses[strategy, name], losses["ddp", name], atol=1e-5, rtol=0)


def test_the_comparison_can_fail(losses: Any) -> None:
    """Accumulation keeps the step (one global batch in parts); clipping changes it, so it bites."""
    torch.testing.assert_close(losses["ddp", "accumulated"], losses["ddp", "plain"], atol=1e-4, rtol=0)
    again = losses["ddp", "activation checkpointing"]
    torch.testing.assert_close(again, losses["ddp", "plain"], atol=1e-5, rtol=0)
    assert (losses["ddp", "clipped"] - losses["ddp", "plain"]).abs().max() > 1e-2
