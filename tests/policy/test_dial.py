"""Which setting of the dial a bundle starts from."""

from __future__ import annotations

import pytest

from recsys.policy.dial import DialConfig, default_dial
from recsys.schema import InputError


def row(dial: float, loss: float, lower: float | None) -> dict[str, float | None]:
    return {"dial": dial, "ndcg_loss": loss, "gain_lower": lower}


FRONT = [row(0.0, 0.0, None), row(0.2, 0.004, 0.1), row(0.5, 0.02, 0.2), row(0.8, 0.021, 0.3)]


def test_the_largest_that_costs_little_and_surely_gains() -> None:
    assert default_dial(FRONT, most_ndcg_loss=0.02) == 0.5
    assert default_dial(FRONT, most_ndcg_loss=0.05) == 0.8
    assert default_dial(FRONT, most_ndcg_loss=0.001) == 0.0


def test_without_a_lower_bound_above_zero_the_dial_stays_at_zero() -> None:
    assert default_dial([row(0.2, -0.01, None), row(0.5, 0.0, -0.1)], most_ndcg_loss=0.02) == 0.0
    assert default_dial([], most_ndcg_loss=0.02) == 0.0


@pytest.mark.parametrize(
    "changes", [{"settings": [0.0]}, {"most_ndcg_loss": 1.0}, {"level": 1.0}, {"category_penalty": -1.0}]
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"dial\."):
        DialConfig(**changes)
