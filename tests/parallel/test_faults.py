"""A run that is killed at random moments learns from every sample as if nothing had happened."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from recsys.parallel.checkpoints import fault
from tests.parallel.faults import (
    ALONE,
    DAMAGED,
    EVERY,
    KILLS,
    SAVING,
    STEPPING,
    STEPS,
    KilledRun,
    checkpoints,
    run_with_kills,
)
from tests.parallel.ledger import Entry, batches, losses, lost_and_doubled, planned, surviving
from tests.parallel.resuming import KINDS
from tests.test_module import samples_of

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]


class Compared(NamedTuple):
    kind: str
    killed: KilledRun
    whole: KilledRun
    folder: Path

    @property
    def history(self) -> dict[int, list[Entry]]:
        return surviving(self.killed.found)


@pytest.fixture(scope="module", params=ALONE)
def compared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """Beside the unbroken run on two ranks."""
    pytest.importorskip("deepspeed")
    place, run = tmp_path_factory.mktemp("faults"), KINDS[request.param] | {"steps": STEPS}
    whole = run_with_kills(place / "whole", run=run, kills=0)
    killed = run_with_kills(
        place / "killed", run=run, kills=KILLS, alone=ALONE[request.param], damaged=DAMAGED
    )
    return Compared(request.param, killed, whole, place / "killed")


def test_it_was_killed_in_every_way(compared: Compared) -> None:
    kills = compared.killed.kills
    assert len(kills) == KILLS
    assert {kill.number for kill in kills} == {signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1}
    assert sum(kill.saving for kill in kills) >= 2, "while a checkpoint was being written"
    assert {kill.moment for kill in kills if kill.number == signal.SIGKILL} >= {SAVING, STEPPING}
    again = sum(entry["what"] == "step" for entry in compared.killed.found)
    assert again > sum(len(ranks) for ranks in compared.history.values()), "steps were lost and made again"


def test_no_sample_is_lost_or_doubled(compared: Compared) -> None:
    plan = planned(samples_of(), steps=STEPS)
    history = compared.history
    assert list(history) == list(range(1, STEPS + 1))
    assert all(
        sorted(entry["rank"] for entry in ranks) == list(range(ranks[0]["num_ranks"]))
        for ranks in history.values()
    )
    assert batches(history) == [names for _, names in plan]
    assert lost_and_doubled(history, plan) == (0, 0)
    ended = {epoch for epoch, _ in plan[:-1] if epoch < plan[-1][0]}
    everyone = sorted(name for epoch, names in plan for name in names if epoch == 0)
    for epoch in ended:
        of_epoch = [e for ranks in history.values() for e in ranks if e["epoch"] == epoch]
        assert sorted(name for entry in of_epoch for name in entry["samples"]) == everyone
    assert len(everyone) == len(samples_of())
    assert len(ended) > 10


def test_the_count_can_fail(compared: Compared) -> None:
    plan, history = planned(samples_of(), steps=STEPS), compared.history
    entry = history[7][0]
    history[7] = [entry | {"samples": [*entry["samples"][1:], entry["samples"][1]]}, *history[7][1:]]
    assert lost_and_doubled(history, plan) == (1, 1)


def test_losses_are_those_of_the_unbroken_run(compared: Compared) -> None:
    whole = losses(surviving(compared.whole.found))
    assert len(whole) == STEPS
    difference = (torch.tensor(losses(compared.history)) - torch.tensor(whole)).abs()
    assert difference[:50].max() <= 1e-5
    # The rounding of other sums, on other ranks, grows with the steps; learning from other samples makes 0.1.
    assert difference.max() <= (1e-3 if ALONE[compared.kind] else 1e-5)
    assert (torch.tensor(whole[1:]) - torch.tensor(whole[:-1])).abs().median() > 0.1


def test_on_as_many_ranks_the_weights_are_too(compared: Compared) -> None:
    """On others Adam makes whole steps of rounding where a weight has no gradient, as a bias of keys."""
    used = {entry["num_ranks"] for ranks in compared.history.values() for entry in ranks}
    assert used == ({1, 2} if ALONE[compared.kind] else {2})
    if used == {2}:
        weights: dict[str, Any] = compared.killed.kept[0]["weights"]
        torch.testing.assert_close(weights, compared.whole.kept[0]["weights"], atol=1e-5, rtol=0)


def test_a_damaged_checkpoint_is_named_and_the_one_before_used(compared: Compared) -> None:
    assert len(compared.killed.damages) == len(DAMAGED)
    for damage in compared.killed.damages:
        assert f"{damage.checkpoint} is damaged" in damage.said
        assert "the one before is used" in damage.said
        began = [e for e in compared.killed.found if (e["attempt"], e["what"]) == (damage.attempt, "began")]
        assert {entry["step"] for entry in began} == {damage.step_before}


def test_nothing_half_written_is_left(compared: Compared) -> None:
    kept = checkpoints(compared.folder)
    assert [step for step, _ in kept] == [STEPS - EVERY, STEPS]
    assert [fault(path) for _, path in kept] == [None, None]
    names = {path.name for _, path in kept}
    tables = {f".tables-{name}" for name in names} if "sharded" in compared.kind else set()
    assert {path.name for path in (compared.folder / "checkpoints").iterdir()} == names | tables


def test_nothing_is_compiled_at_the_start(compared: Compared) -> None:
    """A kill would leave its lock, and all later runs of the machine would wait for it."""
    assert not (compared.folder / "extensions").exists()
