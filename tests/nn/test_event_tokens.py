"""Dwell and words of searches: what they change and from which event on; models without are as they were."""

from __future__ import annotations

import pytest
import torch

from recsys.batch import Histories, QueryWords
from recsys.nn.event_tokens import amounts, searched
from recsys.nn.own_items import own_items
from recsys.nn.user_model import UserModel
from recsys.schema import PAD
from tests.nn.small_model import catalogue, histories, small_model

SEARCH_AT = 2  # position of the search in the first row


def telling() -> Histories:
    """The first user's third event is a search for words 2 and 5 without an item."""
    history = histories()
    item_BL = history.item_BL.clone()
    item_BL[0, SEARCH_AT] = PAD
    dwell_BL = torch.tensor([[9.0, 0, 0, 30, 2, 0], [0, 4, 0, 8, 0, 0]])
    words = QueryWords(torch.tensor([SEARCH_AT, SEARCH_AT]), torch.tensor([2, 5]))
    return history._replace(item_BL=item_BL, dwell_BL=dwell_BL, words=words)


def both(**changes: object) -> UserModel:
    return small_model(has_dwell=True, has_queries=True, **changes)


@torch.no_grad()
def states(model: UserModel, history: Histories) -> torch.Tensor:
    return model(history, catalogue()).user_BLD


def differs_from(one: torch.Tensor, other: torch.Tensor) -> list[int]:
    """Positions of the first row at which the states are others."""
    return [t for t in range(one.shape[1]) if not torch.allclose(one[0, t], other[0, t], atol=1e-6)]


@pytest.mark.parametrize("cross_attention", [True, False])
def test_words_change_the_state_from_the_search_on(cross_attention: bool) -> None:
    model, history = both(cross_attention=cross_attention), telling()
    assert history.words is not None
    other = history._replace(words=history.words._replace(word_K=torch.tensor([2, 6])))
    before, after = states(model, history), states(model, other)
    assert differs_from(before, after) == [3, 4, 5, 6]
    assert torch.equal(before[:, : SEARCH_AT + 1], after[:, : SEARCH_AT + 1])
    assert torch.equal(before[1], after[1]), "the other user has not searched"


def test_dwell_changes_the_state_from_the_view_on() -> None:
    model, history = both(), telling()
    assert history.dwell_BL is not None
    dwell_BL = history.dwell_BL.clone()
    dwell_BL[0, 3] = 31 * 60
    before, after = states(model, history), states(model, history._replace(dwell_BL=dwell_BL))
    assert differs_from(before, after) == [4, 5, 6]
    assert torch.equal(before[0, :4], after[0, :4])


def test_a_search_reads_as_an_item_of_its_words() -> None:
    model, items = both(), catalogue()
    words_BLD = searched(telling(), model.item_tower.words)
    vector_WD = model.item_tower.words.weight
    torch.testing.assert_close(words_BLD[0, SEARCH_AT], (vector_WD[2] + vector_WD[5]) / 2**0.5)
    assert words_BLD.count_nonzero() == words_BLD.shape[-1]
    plain = model.item_tower.content(
        items._replace(
            categorical_VF=torch.zeros_like(items.categorical_VF),
            numeric_VN=torch.zeros_like(items.numeric_VN),
            tokens_VT=torch.tensor([[0, 0]] * 6 + [[2, 5]]),
        )
    )
    torch.testing.assert_close(words_BLD[0, SEARCH_AT], plain[-1])


def test_words_that_came_after_the_training_say_nothing() -> None:
    model, history = both(), telling()
    assert history.words is not None
    late = QueryWords(torch.tensor([SEARCH_AT] * 3), torch.tensor([2, 5, 99]))
    torch.testing.assert_close(states(model, history._replace(words=late)), states(model, history))


def test_amounts_by_hand() -> None:
    told = amounts(telling(), has_time=True, has_dwell=True)
    expected = [torch.log(torch.tensor(x)) / 3 for x in (6.0, 1.0, 10.0)]
    torch.testing.assert_close(told[0, 0, [0, 1, 3]], torch.stack(expected))
    assert amounts(telling(), has_time=True, has_dwell=False).shape[-1] == 3
    assert not amounts(histories(), has_time=True, has_dwell=True)[..., 3].any(), "tables without dwell"


def test_a_model_of_other_data_has_the_weights_that_it_had() -> None:
    plain, telling_model = small_model().state_dict(), both().state_dict()
    assert plain["amount.weight"].shape == (8, 3)
    assert plain.keys() == telling_model.keys()
    assert {n for n in plain if plain[n].shape != telling_model[n].shape} == {"amount.weight"}
    model = small_model()
    assert torch.equal(
        states(model, histories()), states(model, telling()._replace(item_BL=histories().item_BL))
    )


@pytest.mark.parametrize("has_time", [True, False])
def test_an_event_without_an_item_is_nobody_s_own_item(has_time: bool) -> None:
    model, history = both(has_time=has_time), telling()
    row_Q, length_Q = torch.tensor([0, 0]), torch.tensor([3, 6])
    own = own_items(history, row_Q, length_Q)
    assert not own.among(7)[:, PAD].any()
    assert own.among(7).sum(1).tolist() == [2, 4]
    with torch.no_grad():
        found = model(history, catalogue())
        weight_QO = model.recall(found.hidden_BLD, own)
        assert not weight_QO[own.item_QO == PAD].any()
        logits_QV = model.item_logits(model.item_scores(found, history, catalogue(), row_Q, length_Q))
        # whatever the row of padding holds, it is mixed into no vector
        model.item_projection.bias.normal_()
        other = found._replace(item_VS=found.item_VS.clone().index_fill_(0, torch.tensor([PAD]), 9.0))
        vectors = [model.user_vectors(each, own) for each in (found, other)]
    assert torch.isinf(logits_QV[:, PAD]).all()
    assert torch.equal(*vectors)


def test_positions_at_once_are_as_one_by_one_with_a_search_among_them() -> None:
    model = both(has_time=False, repeats=False)
    history = telling()
    row_Q, length_Q = torch.tensor([0] * 7 + [1] * 5), torch.tensor([*range(7), *range(5)])
    with torch.no_grad():
        found = model(history, catalogue())
        found = found._replace(item_VS=found.item_VS.clone().index_fill_(0, torch.tensor([PAD]), 0.5))
        one_by_one_QS = model.user_vectors(found, own_items(history, row_Q, length_Q))[:, :-1]
        at_once_NS = model.position_vectors(found, history, row_Q * 7 + length_Q)
    torch.testing.assert_close(at_once_NS, one_by_one_QS, atol=1e-5, rtol=1e-5)
