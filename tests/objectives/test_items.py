"""The item loss against a calculation by hand."""

from __future__ import annotations

import math

import pytest
import torch

from recsys.batch import ItemQueries
from recsys.objectives.items import item_loss

# exp of the logits: 0, 1, 2, 5 (sum 8) and 0, 3, 3, 4 (sum 10); item 0 is padding
LOGITS_QV = torch.log(torch.tensor([[0.0, 1, 2, 5], [0, 3, 3, 4]]))


def queries(
    target_query: list[int], target_item: list[int], weight: list[float], *, discovers: bool = True
) -> ItemQueries:
    return ItemQueries(
        row_Q=torch.tensor([0, 0]),
        length_Q=torch.tensor([1, 2]),
        weight_Q=torch.tensor(weight),
        period_Q=torch.tensor([0, 0]),
        discovers_Q=torch.tensor([discovers, discovers]),
        target_query_P=torch.tensor(target_query, dtype=torch.int64),
        target_item_P=torch.tensor(target_item, dtype=torch.int64),
    )


def test_two_queries_with_several_targets_and_weights() -> None:
    loss = item_loss(LOGITS_QV, queries([0, 0, 1], [2, 3, 1], [2.0, 0.5]))
    first = -(math.log(2 / 8) + math.log(5 / 8)) / 2
    second = -math.log(3 / 10)
    assert loss.item() == pytest.approx(2 * first + 0.5 * second, rel=1e-6)


def test_a_dated_query_asks_for_any_of_its_targets() -> None:
    loss = item_loss(LOGITS_QV, queries([0, 0, 1], [2, 3, 1], [2.0, 0.5], discovers=False))
    assert loss.item() == pytest.approx(-2 * math.log(7 / 8) - 0.5 * math.log(3 / 10), rel=1e-6)


@pytest.mark.parametrize("discovers", [True, False])
def test_impossible_targets_do_not_count_and_leave_no_trace_in_the_gradient(discovers: bool) -> None:
    logits_QV = LOGITS_QV.clone()
    logits_QV[:, 1] = float("-inf")
    logits_QV.requires_grad_()
    loss = item_loss(logits_QV, queries([0, 0, 1], [1, 3, 1], [1.0, 1.0], discovers=discovers))
    assert loss.item() == pytest.approx(-math.log(5 / 7), rel=1e-6)
    loss.backward()
    assert torch.isfinite(logits_QV.grad[:, 2:]).all()  # type: ignore[index]
    assert not logits_QV.grad[1, 2:].any()  # type: ignore[index]


def test_the_order_of_targets_does_not_matter() -> None:
    one = item_loss(LOGITS_QV, queries([0, 0, 1], [2, 3, 1], [2.0, 0.5]))
    other = item_loss(LOGITS_QV, queries([0, 1, 0], [3, 1, 2], [2.0, 0.5]))
    torch.testing.assert_close(one, other)


def test_label_smoothing_spreads_over_the_real_items() -> None:
    loss = item_loss(LOGITS_QV, queries([0], [3], [1.0, 0.0]), label_smoothing=0.3)
    spread = (math.log(1 / 8) + math.log(2 / 8) + math.log(5 / 8)) / 3
    assert loss.item() == pytest.approx(-(0.7 * math.log(5 / 8) + 0.3 * spread), rel=1e-6)


def test_a_batch_without_queries_costs_nothing_and_has_a_gradient() -> None:
    logits_QV = torch.zeros(0, 4, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    loss = item_loss(logits_QV, ItemQueries(none, none, torch.zeros(0), none, none > 0, none, none))
    loss.backward()
    assert loss.item() == 0
