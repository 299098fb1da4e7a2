"""A run that was cut off goes on where it was, on as many ranks or on others."""

from __future__ import annotations

import statistics

import pytest
from scipy import stats

from tests.parallel.resuming import (
    CUT_OFF,
    DROPOUT,
    KINDS,
    MOVES,
    STEPS,
    WITH_DROPOUT,
    Resumes,
    moves,
    resumes,
)

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(3000)]
SURE = 0.999  # of the interval that a run of another seed falls into


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Resumes:
    pytest.importorskip("deepspeed")
    return resumes(tmp_path_factory.mktemp("resume"))


@pytest.mark.parametrize(
    ("kind", "dropout", "before", "after"),
    [(kind, *move) for kind in KINDS for move in moves(kind) if not move[0] or move[1:] == (2, 2)],
)
def test_losses_are_those_of_the_unbroken_run(
    found: Resumes, kind: str, dropout: float, before: int, after: int
) -> None:
    whole, second = (found.runs[kind, dropout, what] for what in ("whole", f"{before} to {after}"))
    assert (len(whole.losses), len(second.losses)) == (STEPS, STEPS - CUT_OFF)
    assert found.difference(kind, dropout, before, after) <= 1e-5


@pytest.mark.parametrize(("before", "after"), MOVES)
@pytest.mark.parametrize("kind", KINDS)
def test_so_are_the_weights(found: Resumes, kind: str, before: int, after: int) -> None:
    assert found.weight_difference(kind, before, after) <= 1e-5
    cut, whole = (found.runs[kind, 0.0, what].weights for what in (f"cut off on {before}", "whole"))
    assert max((cut[name] - whole[name]).abs().max() for name in whole) > 1e-2, "they have moved since"


@pytest.mark.parametrize(
    ("kind", "dropout", "before", "after"), [(kind, *move) for kind in KINDS for move in moves(kind)]
)
def test_the_order_of_samples_is_that_of_the_unbroken_run(
    found: Resumes, kind: str, dropout: float, before: int, after: int
) -> None:
    first, second = (
        found.runs[kind, dropout, what] for what in (f"cut off on {before}", f"{before} to {after}")
    )
    assert first.samples + second.samples == found.runs[kind, dropout, "whole"].samples
    assert first.samples[:CUT_OFF] != second.samples[:CUT_OFF]


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
@pytest.mark.parametrize("kind", WITH_DROPOUT)
def test_with_dropout_other_ranks_are_another_seed(
    found: Resumes, kind: str, before: int, after: int
) -> None:
    """Within the prediction interval for one more run like those of the seeds (normal, unknown variance)."""
    noise = found.noise(kind)
    spread = statistics.stdev(noise) * (1 + 1 / len(noise)) ** 0.5
    margin = spread * stats.t.ppf((1 + SURE) / 2, len(noise) - 1)
    resumed = found.later_loss(kind, f"{before} to {after}")
    assert abs(resumed - statistics.mean(noise)) < margin
    assert found.difference(kind, DROPOUT, before, after) > 0, "each rank draws a new stream"


def test_dropout_was_on(found: Resumes) -> None:
    for kind in KINDS:
        with_dropout, without = (found.runs[kind, dropout, "whole"].losses for dropout in (DROPOUT, 0.0))
        assert (with_dropout - without).abs().max() > 1e-2
