"""The plain SASRec that stands beside ours is judged as ours is: the right event, seen items left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from benchmarks.plain_ranking import Log, ndcg, trained
from benchmarks.plain_sasrec import SasRec
from benchmarks.train_workloads import Size

NUM_ITEMS = 20
LOG = Log(np.array([0, 4, 9]), np.array([1, 2, 3, 4, 5, 6, 7, 8, 9]), NUM_ITEMS)


class Fixed(SasRec):
    """Likes low items, whatever came before; notes what it was shown."""

    def last_logits(self, item_BL: torch.Tensor) -> torch.Tensor:
        self.shown = item_BL.tolist()
        return -torch.arange(NUM_ITEMS + 1.0).repeat(len(item_BL), 1)


@pytest.fixture
def fixed() -> Fixed:
    return Fixed(Size(data="tiny"), num_items=NUM_ITEMS)


def test_the_last_event_is_the_test_and_the_one_before_validates(fixed: Fixed) -> None:
    # Of user 0 items 1 to 3 are seen, so the target 4 is first; user 1's target 9 comes after 1 to 4.
    assert ndcg(fixed, LOG, left_out=1, most=3).tolist() == pytest.approx([1, 1 / math.log2(6)])
    assert fixed.shown == [[1, 2, 3], [6, 7, 8]]
    ndcg(fixed, LOG, left_out=2, most=3)
    assert fixed.shown == [[1, 2, 0], [5, 6, 7]]


def test_an_item_seen_before_the_newest_few_is_left_out_too(fixed: Fixed) -> None:
    log = Log(np.array([0, 4]), np.array([1, 2, 3, 4]), NUM_ITEMS)
    assert ndcg(fixed, log, left_out=1, most=1).tolist() == [1]


def test_training_ends_once_validation_grows_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    found = trained(LOG, Size(data="tiny"), seed=0, epochs=200, patience=3)
    assert len(capsys.readouterr().out.splitlines()) == found.epoch + 1 + 3
    assert found.validation > 0
