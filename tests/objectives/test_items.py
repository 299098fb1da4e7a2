"""The item loss against a calculation by hand."""

from __future__ import annotations

import math

import pytest
import torch

from recsys.batch import Candidates, ItemQueries
from recsys.objectives.items import candidate_logits, item_loss

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


@pytest.mark.parametrize("discovers", [True, False])
def test_own_items_are_closed_to_discovery_and_unlearned_items_to_all(discovers: bool) -> None:
    own_QV = torch.tensor([[False, True, False, False], [False, False, False, False]])
    asked = queries([0, 1], [2, 2], [1.0, 1.0], discovers=discovers)
    in_training_V = torch.tensor([False, True, True, False])
    found = candidate_logits(LOGITS_QV, asked, own_QV=own_QV, in_training_V=in_training_V, candidates=None)
    assert found.exp().tolist() == [
        pytest.approx([0, 0 if discovers else 1, 2, 0]),
        pytest.approx([0, 3, 3, 0]),
    ]


def test_drawn_items_stand_for_those_not_drawn_and_sure_ones_for_themselves() -> None:
    own_QV = torch.tensor([[False, True, False, False], [False, False, False, False]])
    asked = queries([0, 1], [2, 2], [1.0, 1.0], discovers=False)
    # item 1 came with a row and was not drawn, item 2 was drawn with probability 1/2, item 3 with 1/4
    log_weight_V = torch.tensor([-math.inf, -math.inf, math.log(2), math.log(4)])
    drawn = Candidates(torch.arange(4), log_weight_V, torch.tensor([2, 3]))
    found = candidate_logits(
        LOGITS_QV, asked, own_QV=own_QV, in_training_V=torch.arange(4) > 0, candidates=drawn
    )
    assert found.exp().tolist() == [
        pytest.approx([0, 1, 2, 4 * 5]),  # its own item, its target, a stand-in
        pytest.approx([0, 0, 3, 4 * 4]),  # another's own item, its target, a stand-in
    ]


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
