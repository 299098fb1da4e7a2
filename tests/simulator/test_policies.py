"""Chance is even and says so; oracles show the best of the catalogue; weights of nothing change nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recsys.schema import PAD
from recsys.simulator.market import Market
from recsys.simulator.policies import Popular, Random, Ranked, ValueAware, expected_clicks, expected_revenue
from recsys.simulator.scene import Scene
from tests.simulator.small import small_scene
from tests.simulator.worlds import load_world, run


def first_scene(market: Market) -> Scene:
    """Of day 0."""
    seen: list[Scene] = []

    def policy(scene: Scene):
        seen.append(scene)
        return Random(slate_size=3)(scene)

    market.day(policy)
    return seen[0]


def test_random_shows_every_order_as_often_as_it_says() -> None:
    size = 30_000
    shown = Random(slate_size=2)(small_scene(num_users=size))
    np.testing.assert_allclose(shown.propensity_BK, np.tile([1 / 3, 1 / 2], (size, 1)))
    pairs, counts = np.unique(shown.item_BK, axis=0, return_counts=True)
    assert pairs.tolist() == [[1, 2], [1, 3], [2, 1], [2, 3], [3, 1], [3, 2]]
    np.testing.assert_allclose(counts / size, 1 / 6, atol=4 * math.sqrt(1 / 6 * 5 / 6 / size))


def test_random_leaves_slots_empty_where_items_run_out() -> None:
    shown = Random(slate_size=5)(small_scene(num_users=100))
    np.testing.assert_array_equal(np.sort(shown.item_BK, axis=1), np.tile([0, 0, 1, 2, 3], (100, 1)))
    np.testing.assert_array_equal(np.isnan(shown.propensity_BK), shown.item_BK == PAD)


def test_popular_shows_what_was_opened_most() -> None:
    scene = small_scene(num_users=2)
    scene.state.num_opened_V[:] = [0, 3, 9, 3]
    assert Popular(slate_size=4)(scene).item_BK.tolist() == [[2, 1, 3, 0]] * 2


def test_expected_revenue_by_hand() -> None:
    choice = {"click_bias": 0.0, "click_affinity": 0.0, "click_bait": 0.0, "click_boredom": 0.0}
    choice |= {"buy_bias": 0.0, "buy_affinity": 0.0, "buy_quality": 0.0, "buy_whale": 0.0}
    scene = small_scene(num_users=2, choice=choice)
    scene.state.spent_U[1] = 85.0  # of 100: 20 cannot be paid
    found = expected_revenue(scene, np.array([0, 1]), np.array([[1, 2]]))
    dear = 0.5 * 20 / (1 + math.exp(1.5 * 0.2))
    np.testing.assert_allclose(found, [[dear, 2.5], [0.01 * dear, 2.5]], rtol=1e-5)


@pytest.mark.parametrize("scorer", [expected_clicks, expected_revenue])
def test_a_shelf_of_everything_is_the_whole_catalogue(scorer) -> None:
    market = Market(world=load_world(), num_users=60, num_items=100, seed=0)
    scene = first_scene(market)
    shown = Ranked(scorer, slate_size=4, shelf_size=100)(scene)
    born = scene.items.born(0)
    for row, user in enumerate(scene.user_B):
        scores = {
            int(item): float(scorer(scene, np.array([user]), np.array([[item]]))[0, 0]) for item in born
        }
        best = sorted(scores, key=lambda item: -scores[item])[:4]
        assert shown.item_BK[row].tolist() == best


def test_a_short_shelf_loses_little_to_the_whole_catalogue() -> None:
    scene = first_scene(Market(world=load_world(), num_users=400, num_items=2000, seed=0))
    short = Ranked(expected_revenue, slate_size=10, shelf_size=12)(scene).score_BK.sum()
    whole = Ranked(expected_revenue, slate_size=10, shelf_size=2000)(scene).score_BK.sum()
    assert 0.97 * whole < short <= whole * (1 + 1e-6)


def test_the_worth_of_satisfaction_by_hand() -> None:
    effects = load_world(satisfaction={"from_clicks": 0.5, "from_purchases": 0.0}).satisfaction
    choice = {"click_bias": 0.0, "click_affinity": 0.0, "click_bait": 0.0, "click_boredom": 0.0}
    scene = small_scene(choice=choice | {"buy_whale": 0.8})
    user, item = np.array([0]), np.array([[1, 2]])
    gained = ValueAware(weight=3.0, effects=effects)(scene, user, item) - expected_revenue(scene, user, item)
    # weight x 12 x e^(0.8 x 0.5) x response 2 x click 0.5 x 0.5 x (quality - bait), which are 1 and 0
    np.testing.assert_allclose(gained, [[3 * 12 * math.exp(0.4) * 0.5, 0]], rtol=1e-5, atol=1e-5)


def test_without_effects_or_weight_the_value_aware_oracle_is_myopic() -> None:
    null, default = load_world("null_world").satisfaction, load_world().satisfaction
    slates = []
    for scorer in (
        expected_revenue,
        ValueAware(weight=1.0, effects=null),
        ValueAware(weight=0.0, effects=default),
        ValueAware(weight=1.0, effects=default),
    ):
        market = Market(world=load_world("null_world"), num_users=50, num_items=200, seed=0)
        days = run(market, Ranked(scorer, slate_size=5, shelf_size=12), 10)
        slates.append(np.concatenate([day.shown.item_BK for day in days]))
    np.testing.assert_array_equal(slates[0], slates[1])
    np.testing.assert_array_equal(slates[0], slates[2])
    assert (slates[0] != slates[3][: len(slates[0])]).any()
