"""What neighbours say, by hand: the weights of those in the prefix, for items that are new to the user."""

from __future__ import annotations

import torch

from recsys.nn.neighbours import Neighbours
from recsys.nn.own_items import own_items
from tests.nn.small_model import catalogue, histories, part_of, small_model

ROW_Q, LENGTH_Q = torch.tensor([0, 0, 1]), torch.tensor([2, 0, 3])  # {1, 2}, nothing, {4, 5}


def filled(neighbours: Neighbours) -> Neighbours:
    """Of item 3: 1 and 4; of item 6: 1 and 2; of item 1: 2."""
    neighbours.fill(
        torch.tensor([[0, 0], [2, 0], [0, 0], [1, 4], [0, 0], [0, 0], [1, 2]]),
        torch.tensor([[0.0, 0], [9, 0], [0, 0], [0.5, 0.25], [0, 0], [0, 0], [0.1, 0.2]]),
    )
    return neighbours


def test_weights_of_neighbours_in_the_prefix_add_up_but_for_own_items() -> None:
    neighbours = filled(Neighbours(capacity=8, num_neighbours=2))
    said_QV = neighbours(own_items(histories(), ROW_Q, LENGTH_Q), catalogue())
    expected = [[0, 0, 0, 0.5, 0, 0, 0.3], [0] * 7, [0, 0, 0, 0.25, 0, 0, 0]]
    torch.testing.assert_close(said_QV, torch.tensor(expected))


def test_a_part_of_the_catalogue_says_the_same_of_its_items() -> None:
    neighbours = filled(Neighbours(capacity=8, num_neighbours=2))
    kept_V = torch.tensor([0, 1, 2, 6])  # item 3 and its neighbour 4 are left out
    history = histories()
    first = history._replace(
        item_BL=torch.searchsorted(kept_V, history.item_BL[:1, :2]), timestamp_BL=history.timestamp_BL[:1, :2]
    )
    part_QV = neighbours(own_items(first, ROW_Q[:1], LENGTH_Q[:1]), part_of(catalogue(), kept_V))
    torch.testing.assert_close(part_QV, torch.tensor([[0, 0, 0, 0.3]]))


@torch.no_grad()
def test_they_count_when_training_is_over() -> None:
    model, history, items = (
        small_model(num_neighbours=2, dropout=0.0, user_dropout=0.0),
        histories(),
        catalogue(),
    )
    states = model(history, items)

    def logits() -> torch.Tensor:
        return model.item_logits(model.item_scores(states, history, items, ROW_Q, LENGTH_Q))

    before_QV = logits()
    assert model.neighbours is not None
    filled(model.neighbours)
    torch.testing.assert_close(
        (logits() - before_QV)[:, 1:], model.neighbours(own_items(history, ROW_Q, LENGTH_Q), items)[:, 1:]
    )
    torch.testing.assert_close(
        model.train().item_logits(model.item_scores(states, history, items, ROW_Q, LENGTH_Q)), before_QV
    )
