"""The user model looks back and never ahead; value sees the date, item scores do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from recsys.batch import Histories
from recsys.nn.own_items import own_items
from recsys.nn.user_model import UserModel
from tests.nn.small_model import DAY, NUM_FEATURES, catalogue, histories, part_of, small_model

CHANGES = {
    "item_BL": lambda x: torch.where(x == 3, 5, 3),
    "event_type_BL": lambda x: x % 3 + 1,
    "timestamp_BL": lambda x: x + 11 * DAY,
    "value_BL": lambda x: x * -3 + 7,
}


@torch.no_grad()
def outputs(model: UserModel, history: Histories, length: int) -> list[Tensor]:
    """Everything a model says of both users after `length` events."""
    states = model(history, catalogue())
    row_Q, length_Q = torch.arange(2), torch.full((2,), length)
    features_BCR = torch.linspace(-1, 1, NUM_FEATURES).expand(2, 1, -1)
    return [
        model.user_vectors(states, own_items(history, row_Q, length_Q)),
        model.item_logits(model.item_scores(states, history, catalogue(), row_Q, length_Q)),
        *model.value(states, length_Q[:, None], features_BCR),
    ]


def changed_from(history: Histories, field: str, first: int, last: int | None = None) -> Histories:
    tensor = getattr(history, field).clone()
    tensor[:, first:last] = CHANGES[field](tensor[:, first:last])
    return history._replace(**{field: tensor})


@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize("length", range(6))
def test_nothing_from_the_target_on_is_seen(field: str, length: int) -> None:
    model = small_model()
    before = outputs(model, histories(), length)
    after = outputs(model, changed_from(histories(), field, length), length)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("field", CHANGES)
def test_every_field_of_the_last_known_event_counts(field: str) -> None:
    model = small_model()
    vector, logits, payer, *_ = outputs(model, histories(), 4)
    changed = outputs(model, changed_from(histories(), field, 3, 4), 4)
    for one, other in zip((vector, logits[:, 1:], payer), changed, strict=False):
        assert not torch.allclose(one, other[:, -one.shape[1] :], atol=1e-4)


def test_more_padding_changes_nothing() -> None:
    short, model = histories(), small_model()
    fields = ("item_BL", "event_type_BL", "timestamp_BL", "value_BL")
    longer = short._replace(**{f: torch.nn.functional.pad(getattr(short, f), (0, 3)) for f in fields})
    for one, other in zip(outputs(model, short, 4), outputs(model, longer, 4), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_the_other_rows_of_a_batch_do_not_matter() -> None:
    model, both = small_model(), histories()
    alone = Histories(*(tensor[:1] for tensor in both if torch.is_tensor(tensor)))
    together = model(both, catalogue()).user_BLD[0]
    torch.testing.assert_close(model(alone, catalogue()).user_BLD[0], together, atol=1e-5, rtol=1e-5)


def test_a_score_is_cosine_over_temperature_plus_item_terms_and_padding_is_never_scored() -> None:
    model, history, items = small_model(repeats=False), histories(), catalogue()
    index = torch.tensor([0]), torch.tensor([6])
    with torch.no_grad():
        model.item_bias.weight[:, 0] = torch.arange(9.0)
        model.popularity.weight.copy_(torch.tensor([[1.0, 2, 3, 4]]))
        states = model(history, items)
        logits_QV = model.item_logits(model.item_scores(states, history, items, *index))
        vector_QS = model.user_vectors(states, own_items(history, *index))
        cosine_V = torch.nn.functional.cosine_similarity(vector_QS, states.item_VS)
    assert logits_QV[0, 0] == float("-inf")
    number = torch.arange(1.0, 7.0)
    expected = cosine_V[1:] / 0.07 + number + number * (0.1 + 0.4 + 0.9)
    torch.testing.assert_close(logits_QV[0, 1:], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(vector_QS.norm(dim=-1), torch.ones(1))
    torch.testing.assert_close(states.item_VS.norm(dim=-1), torch.ones(7))


def test_each_query_is_given_the_popularity_of_its_own_time() -> None:
    model, history, items = small_model(), histories(), catalogue()
    later = items._replace(popularity_TVW=torch.cat([items.popularity_TVW, items.popularity_TVW.flip(1)]))
    row_Q, length_Q = torch.tensor([0, 1]), torch.tensor([3, 3])
    with torch.no_grad():
        states = model(history, items)
        period_Q = torch.tensor([0, 1])
        both = model.item_logits(model.item_scores(states, history, later, row_Q, length_Q, period_Q))
        first = model.item_logits(model.item_scores(states, history, items, row_Q, length_Q))
    assert torch.equal(both[0], first[0])
    assert not torch.allclose(both[1, 1:], first[1, 1:])


def test_of_a_part_of_the_catalogue_every_score_is_as_of_the_whole() -> None:
    model, history, items = small_model(), histories(), catalogue()
    row_V = torch.tensor([0, 1, 2, 3, 4, 6])  # all but item 5, which user 1 has taken: user 0 only
    index = torch.tensor([0, 0]), torch.tensor([6, 3])
    with torch.no_grad():
        whole = model.item_logits(model.item_scores(model(history, items), history, items, *index))
        part = part_of(items, row_V)
        renamed = history._replace(item_BL=torch.searchsorted(row_V, history.item_BL))
        scores = model.item_scores(model(renamed, part), renamed, part, *index)
        torch.testing.assert_close(model.item_logits(scores), whole[:, row_V])


def test_an_item_vector_keeps_its_length_up_to_one() -> None:
    model = small_model()
    raw_VD = torch.zeros(3, 8)
    raw_VD[1, 0], raw_VD[2, 0] = 0.6, 5.0
    vector_VS = model.item_vectors(raw_VD).detach()
    assert vector_VS[1, [0, -1]].tolist() == pytest.approx([0.6, 0.8])
    assert vector_VS[2, [0, -1]].tolist() == pytest.approx([1, 0], abs=1e-2)


def test_an_order_without_time_ignores_the_clock() -> None:
    model = small_model(has_time=False)
    later = histories()._replace(timestamp_BL=histories().timestamp_BL * 2)
    states, moved = model(histories(), catalogue()), model(later, catalogue())
    assert torch.equal(states.user_BLD, moved.user_BLD)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("score_width", [8, 40])  # narrower and wider than the keys of recall
def test_all_positions_at_once_are_as_one_by_one(positions: str, score_width: int) -> None:
    model = small_model(has_time=False, repeats=False, positions=positions, score_width=score_width)
    history = histories()
    row_Q, length_Q = torch.tensor([0] * 7 + [1] * 5), torch.tensor([*range(7), *range(5)])
    with torch.no_grad():
        states = model(history, catalogue())
        one_by_one_QS = model.user_vectors(states, own_items(history, row_Q, length_Q))[:, :-1]
        at_once_NS = model.position_vectors(states, history, row_Q * 7 + length_Q)
    torch.testing.assert_close(at_once_NS, one_by_one_QS, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", range(6))
def test_with_rotary_positions_nothing_from_the_target_on_is_seen_either(length: int) -> None:
    model = small_model(positions="rotary")
    before = outputs(model, histories(), length)
    after = outputs(model, changed_from(histories(), "item_BL", length), length)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "change",
    [{"width": 8, "num_heads": 3}, {"temperature": 0.0}, {"width": 6, "num_heads": 2, "positions": "rotary"}],
)
def test_impossible_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        small_model(**change)


def test_activation_checkpointing_changes_memory_and_nothing_else() -> None:
    """Dropout included: the random state of forward comes back."""

    def gradients(**changes: Any) -> list[torch.Tensor]:
        model = small_model(dropout=0.5, **changes).train()
        torch.manual_seed(3)
        states = model(histories(), catalogue())
        states.user_BLD.square().sum().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    plain, again = gradients(), gradients(activation_checkpointing=True)
    assert len(plain) == len(again) > 20
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other)
