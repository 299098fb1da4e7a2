"""What own items earn, by hand: without attention an event counts exp(bias) / (1 + days)^decay."""

from __future__ import annotations

import math

import pytest
import torch

from recsys.nn.repeat import RepeatHead
from tests.nn.small_model import DAY, histories

STRENGTH = 1.5
DECAY = math.log(1 + math.exp(-1))  # softplus of -1
BOOST = math.exp(0.5)  # of the bias


def zeroed_head(*, has_time: bool = True) -> RepeatHead:
    head = RepeatHead(width=8, has_time=has_time)
    with torch.no_grad():
        for layer in (head.query, head.key):
            layer.weight.zero_()
            layer.bias.zero_()
        head.bias.fill_(0.5)
        head.decay.fill_(-1.0)
        head.strength.fill_(STRENGTH)
    return head


def earned(head: RepeatHead, *, row: int, length: int) -> list[float]:
    hidden_BLD = torch.randn(2, 7, 8, generator=torch.Generator().manual_seed(0))
    total_QV = head(hidden_BLD, histories(), torch.tensor([row]), torch.tensor([length]), num_rows=7)
    return total_QV[0].tolist()


def test_events_of_an_item_add_up_and_fade() -> None:
    # user 0 after four events: item 1 on days 0 and 3, item 2 on day 1, item 3 on day 3; newest is day 3
    total = earned(zeroed_head(), row=0, length=4)
    assert total[1] == pytest.approx(STRENGTH * math.log1p(BOOST * (4**-DECAY + 1)), abs=1e-5)
    assert total[2] == pytest.approx(STRENGTH * math.log1p(BOOST * 3**-DECAY), abs=1e-5)
    assert total[3] == pytest.approx(STRENGTH * math.log1p(BOOST), abs=1e-5)


def test_items_outside_the_prefix_earn_nothing() -> None:
    total = earned(zeroed_head(), row=0, length=4)
    assert [total[item] for item in (0, 4, 5, 6)] == [0, 0, 0, 0]
    assert earned(zeroed_head(), row=1, length=0) == [0.0] * 7


def test_without_time_the_age_is_counted_in_events() -> None:
    # whatever the unit: user 1 has item 4 two days and one day before the newest event, which is item 5
    total = earned(zeroed_head(has_time=False), row=1, length=3)
    faded = (1 + 2 * DAY) ** -DECAY + (1 + DAY) ** -DECAY
    assert total[4] == pytest.approx(STRENGTH * math.log1p(BOOST * faded), abs=1e-5)
    assert total[5] == pytest.approx(STRENGTH * math.log1p(BOOST), abs=1e-5)
