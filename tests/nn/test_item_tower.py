"""Every item has a vector: by id and content where the id was learned, by content alone where not."""

from __future__ import annotations

import torch

from tests.nn.small_model import catalogue, small_model


def test_an_item_not_seen_in_training_is_its_content() -> None:
    tower = small_model().item_tower
    item_VD, content_VD = tower(catalogue())
    assert torch.equal(item_VD[6], content_VD[6])
    assert content_VD[6].norm() > 0.01
    torch.testing.assert_close(item_VD[3], content_VD[3] + tower.lookup.weight[3])


def test_the_id_row_of_an_unseen_item_does_not_count() -> None:
    tower = small_model().item_tower
    before = tower(catalogue())[0].clone()
    with torch.no_grad():
        tower.lookup.weight[6] += 100
    assert torch.equal(tower(catalogue())[0], before)


def test_different_content_gives_different_vectors() -> None:
    model, items = small_model(), catalogue()
    with torch.no_grad():
        model.item_tower.lookup.weight.zero_()
    item_VD, _ = model.item_tower(items)
    distance_VV = torch.cdist(item_VD[1:], item_VD[1:]) + 10 * torch.eye(6)
    assert distance_VV.min() > 0.01


def test_content_is_the_sum_of_its_parts() -> None:
    tower, items = small_model().item_tower, catalogue()
    # item 4: field 2, number 4 / 3 - 1, words 4 and 1
    words = (tower.words.weight[4] + tower.words.weight[1]) / 2**0.5
    number = tower.numeric.weight[:, 0] * (4 / 3 - 1)
    expected = words + tower.fields[0].weight[2] + number
    torch.testing.assert_close(tower.content(items)[4], expected)


def test_ids_are_dropped_in_training_only() -> None:
    torch.manual_seed(0)
    tower = small_model().item_tower
    many = catalogue(num_items=6)
    dropped = 0
    tower.train()
    for _ in range(200):
        item_VD, content_VD = tower(many)
        dropped += int((item_VD[1:6] == content_VD[1:6]).all(-1).sum())
    assert 60 < dropped < 140, "a tenth of 1,000 ids"
    tower.eval()
    item_VD, content_VD = tower(many)
    assert not (item_VD[1:6] == content_VD[1:6]).all(-1).any()


def test_words_and_values_that_came_after_training_are_unknown() -> None:
    tower, items = small_model().item_tower, catalogue()
    later = items._replace(
        tokens_VT=torch.where(items.tokens_VT == 4, 9, items.tokens_VT),
        categorical_VF=torch.where(items.categorical_VF == 2, 5, items.categorical_VF),
    )
    unknown = items._replace(
        tokens_VT=torch.where(items.tokens_VT == 4, 0, items.tokens_VT),
        categorical_VF=torch.where(items.categorical_VF == 2, 0, items.categorical_VF),
    )
    assert torch.equal(tower.content(later), tower.content(unknown))
