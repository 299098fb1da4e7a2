"""What own items weigh and gain, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from recsys.nn.own_items import OwnItems, Recall, Repeats, own_items
from tests.nn.small_model import histories

DECAY = math.log(1 + math.exp(-1))  # softplus of -1
POPULARITY_V = torch.tensor([0.0, 1, 2, 3, 4, 5, 6])


def recalled(*, has_time: bool = True, row: int, length: int) -> list[float]:
    """Weights of a fresh recall, which attends to nothing yet."""
    hidden_BLD = torch.randn(2, 7, 8, generator=torch.Generator().manual_seed(0))
    own = own_items(histories(), torch.tensor([row]), torch.tensor([length]))
    return by_item(own, Recall(width=8, has_time=has_time)(hidden_BLD, own))[0].tolist()


def by_item(own: OwnItems, value_QO: torch.Tensor) -> torch.Tensor:
    """(1, 7): the values at the items they are of, 0 elsewhere."""
    assert len(set(own.item_QO[0].tolist())) == own.item_QO.shape[1], "every item once"
    return torch.zeros(1, 7).scatter(1, own.item_QO, value_QO)


def features(*, row: int, length: int, **settings: bool) -> dict[int, list[float]]:
    """Of every item of the row, with nearness 2 and its number as popularity."""
    repeats = Repeats(num_popularity=1, **({"has_time": True} | settings))
    own = own_items(histories(), torch.tensor([row]), torch.tensor([length]))
    found = repeats.features(own, POPULARITY_V[own.item_QO][..., None], torch.full(own.item_QO.shape, 2.0))
    return dict(zip(own.item_QO[0].tolist(), found[0].tolist(), strict=True))


def test_events_of_an_item_add_up_and_fade() -> None:
    # user 0 after four events: item 1 on days 0 and 3, item 2 on day 1, item 3 on day 3; newest is day 3
    weight = recalled(row=0, length=4)
    assert weight[1] == pytest.approx(4**-DECAY + 1, abs=1e-5)
    assert weight[2] == pytest.approx(3**-DECAY, abs=1e-5)
    assert weight[3] == pytest.approx(1, abs=1e-5)
    assert recalled(row=0, length=4, has_time=False)[1:4] == pytest.approx([2, 1, 1])


def test_features_are_log_decayed_counts_popularity_and_nearness() -> None:
    def expected(ages: list[int], popularity: float) -> list[float]:
        logs = [math.log1p(sum(0.5 ** (age / half) for age in ages)) for half in (30, 90, 360)]
        return [*logs, popularity, 2]

    found = features(row=0, length=4)
    assert found[1] == pytest.approx(expected([3, 0], 1), abs=1e-5)
    assert found[2] == pytest.approx(expected([2], 2), abs=1e-5)
    assert found[3] == pytest.approx(expected([0], 3), abs=1e-5)
    assert found[6] == pytest.approx(expected([], 6), abs=1e-5), "bought later"


def test_without_time_events_only_count() -> None:
    assert features(row=0, length=4, has_time=False)[1] == pytest.approx([math.log(3), 1, 2], abs=1e-5)


def test_items_outside_the_prefix_weigh_nothing_and_are_not_own() -> None:
    index = torch.tensor([0, 1]), torch.tensor([4, 0])
    assert [recalled(row=0, length=4)[item] for item in (0, 4, 5, 6)] == [0, 0, 0, 0]
    assert recalled(row=1, length=0) == [0.0] * 7
    known = own_items(histories(), *index).among(7).tolist()
    assert known == [[i in (1, 2, 3) for i in range(7)], [False] * 7]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("has_time", [True, False])
def test_half_precision_recalls_the_same(dtype: torch.dtype, has_time: bool) -> None:
    whole = recalled(row=0, length=4, has_time=has_time)
    with torch.autocast("cpu", dtype):
        assert recalled(row=0, length=4, has_time=has_time) == pytest.approx(whole, abs=0.02)
