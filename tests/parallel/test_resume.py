"""A run that was cut off goes on where it was, on as many ranks or on others."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.parallel.ranks import on_ranks

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]
TRAIN = "tests.parallel.training:train"
STRATEGIES = ("ddp", "zero1", "zero2", "zero3")
STEPS, CUT_OFF = 30, 12
ADAM = {"function": TRAIN, "optimizer": "adam", "steps": STEPS}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], torch.Tensor]:
    """(strategy, what) -> loss of each step, mean over the ranks."""
    pytest.importorskip("deepspeed")
    place = tmp_path_factory.mktemp("resume")
    two: dict[tuple[str, str], dict[str, Any]] = {}
    one: dict[tuple[str, str], dict[str, Any]] = {}
    for strategy in STRATEGIES:
        for dropout in (0.0, 0.3):
            kind = ADAM | {"strategy": strategy, "dropout": dropout}
            path = str(place / f"{strategy}-{dropout}-step={CUT_OFF}.ckpt")
            two[strategy, f"whole {dropout}"] = kind
            two[strategy, f"cut off {dropout}"] = kind | {"save": path, "save_at": CUT_OFF}
            two[strategy, f"resumed {dropout}"] = kind | {"resume": path}
        alone = ADAM | {"strategy": strategy, "num_ranks": 1}
        path = str(place / f"{strategy}-alone-step={CUT_OFF}.ckpt")
        one[strategy, "alone, from two ranks"] = alone | {
            "resume": str(place / f"{strategy}-0.0-step={CUT_OFF}.ckpt")
        }
        one[strategy, "alone, cut off"] = alone | {"save": path, "save_at": CUT_OFF}
    more = {
        (strategy, "two, from one rank"): ADAM
        | {"strategy": strategy, "resume": str(place / f"{strategy}-alone-step={CUT_OFF}.ckpt")}
        for strategy in STRATEGIES
    }
    found: dict[tuple[str, str], torch.Tensor] = {}
    for name, num_ranks, cases in (("two", 2, two), ("one", 1, one), ("more", 2, more)):
        kept = on_ranks(num_ranks, list(cases.values()), place / name)
        for key, ranks in zip(cases, kept, strict=True):
            found[key] = torch.tensor([rank["losses"] for rank in ranks]).mean(0)
    return found


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_on_as_many_ranks_losses_are_those_of_the_unbroken_run(
    runs: Any, strategy: str, dropout: float
) -> None:
    whole, first, second = (runs[strategy, f"{what} {dropout}"] for what in ("whole", "cut off", "resumed"))
    assert (len(whole), len(first), len(second)) == (STEPS, CUT_OFF, STEPS - CUT_OFF)
    torch.testing.assert_close(torch.cat([first, second]), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("what", ["alone, from two ranks", "two, from one rank"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_on_other_ranks_too(runs: Any, strategy: str, what: str) -> None:
    whole, found = runs[strategy, "whole 0.0"], runs[strategy, what]
    torch.testing.assert_close(found, whole[CUT_OFF:], atol=1e-5, rtol=0)


def test_dropout_was_on(runs: Any) -> None:
    assert (runs["ddp", "whole 0.3"] - runs["ddp", "whole 0.0"]).abs().max() > 1e-2
