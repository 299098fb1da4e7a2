"""The dial's front on a small cut of real invoices: figures counted again, refusals, the default."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys.bundle import Bundle, load_bundle
from recsys.data.tables import FeatureTables
from recsys.evaluation.dial import NO_LOG, dial_front, front_lines
from recsys.policy.dial import DialConfig
from recsys.policy.slates import PolicyConfig
from recsys.recommendation import Recommendations, Recommender
from recsys.schema import InputError

CONFIG = DialConfig(settings=[0.5, 30.0])
POLICY = PolicyConfig(kind="deterministic", slate_size=10)


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def tables(tiny_tables: Path, tiny_root: Path) -> FeatureTables:
    return FeatureTables(tables_dir=tiny_tables, cache_dir=tiny_root / "outputs" / "cache")


@pytest.fixture(scope="module")
def front(bundle: Bundle, tables: FeatureTables) -> dict[str, Any]:
    return dial_front(bundle=strong(bundle), tables=tables, split="test", config=CONFIG)


def strong(bundle: Bundle) -> Bundle:
    """The bundle with a critic that wants one item of two, whatever the small log says."""
    item_V = torch.zeros_like(bundle.advantage["item_V"])
    item_V[2::2] = 1.0
    return dataclasses.replace(bundle, advantage=bundle.advantage | {"item_V": item_V})


def shown(bundle: Bundle, tables: FeatureTables, dial: float) -> Recommendations:
    policy = dataclasses.replace(POLICY, dial=dial)
    return Recommender(bundle=bundle, tables=tables, at="test", top_k=10, policy=policy).chunk(0)


def test_training_leaves_a_critic_and_a_dial(bundle: Bundle, tables: FeatureTables) -> None:
    item_V = bundle.advantage["item_V"].numpy()
    assert item_V.shape == (tables.num_items + 1,)
    assert item_V[0] == 0
    assert bundle.dial == 0.0, "a purchase log has no propensities"


def test_without_propensities_the_gain_is_refused_and_the_dial_stays_at_zero(front: dict[str, Any]) -> None:
    assert front["refused"] == NO_LOG
    assert front["default"] == 0.0
    assert [row["gain_lower"] for row in front["front"]] == [None] * 3
    assert NO_LOG in "\n".join(front_lines(front))


def test_accuracy_is_that_of_the_slates_that_recommend_shows(
    front: dict[str, Any], bundle: Bundle, tables: FeatureTables
) -> None:
    """NDCG by hand over the users with purchases of known items after the cut."""
    flat, table = tables.histories, tables.at_cut(split="test")
    known = tables.items("test").in_training
    end = table.cut + tables.window_days * 86_400
    purchase = tables.metadata["event_types"]["purchase"]
    for row in front["front"]:
        found = shown(strong(bundle), tables, row["dial"])
        gains = []
        for k, user in enumerate(table.user_index):
            events = slice(flat.offsets[user - 1] + table.prefix_length[k], flat.offsets[user])
            bought = (flat.event_type[events] == purchase) & (flat.timestamp[events] <= end)
            sent_back = (flat.returned_at[events] > 0) & (flat.returned_at[events] <= end)
            targets = {int(i) for i in flat.item_index[events][bought & ~sent_back] if known[i]}
            if targets and table.prefix_length[k]:
                hits = [item in targets for item in found.slates.item_BK[k].tolist()]
                best = sum(1 / np.log2(rank + 2) for rank in range(min(10, len(targets))))
                gains.append(sum(hit / np.log2(rank + 2) for rank, hit in enumerate(hits)) / best)
        assert row["ndcg@10"] == pytest.approx(np.mean(gains))
    plain, _, far = front["front"]
    assert plain["ndcg_loss"] == 0.0
    assert far["ndcg_loss"] == pytest.approx(1 - far["ndcg@10"] / plain["ndcg@10"])
    assert far["ndcg_loss"] > 0.1


def test_recommend_turns_the_dial_and_says_so_in_the_scores(bundle: Bundle, tables: FeatureTables) -> None:
    wanted = strong(bundle)
    plain, far = shown(wanted, tables, 0.0), shown(wanted, tables, 300.0)
    assert (far.slates.item_BK % 2 == 0).all()
    assert not (plain.slates.item_BK % 2 == 0).all()
    by_default = dataclasses.replace(wanted, dial=300.0)
    found = Recommender(bundle=by_default, tables=tables, at="test", top_k=10, policy=POLICY).chunk(0)
    np.testing.assert_array_equal(found.item_UK, far.item_UK)
    np.testing.assert_array_equal(found.score_UK, far.score_UK)


def test_a_bundle_without_a_critic_has_no_front_and_cannot_be_turned(
    bundle: Bundle, tables: FeatureTables
) -> None:
    without = dataclasses.replace(bundle, advantage={})
    found = dial_front(bundle=without, tables=tables, split="test", config=CONFIG)
    assert found["front"] == []
    assert found["default"] == 0.0
    with pytest.raises(InputError, match=r"policy\.dial=0\.5 needs a critic"):
        shown(without, tables, 0.5)


def test_an_item_gets_no_more_than_its_share_of_all_slots(bundle: Bundle, tables: FeatureTables) -> None:
    policy = dataclasses.replace(POLICY, max_share=0.02)
    arguments = {"bundle": bundle, "tables": tables, "at": "test", "top_k": 10}
    capped, free = (Recommender(**arguments, policy=p).chunk(0).slates.item_BK for p in (policy, POLICY))
    share_V = np.bincount(capped.ravel()) / capped.size
    assert share_V.max() <= 0.02 < np.bincount(free.ravel()).max() / free.size
