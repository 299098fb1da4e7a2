"""The choice model by hand, and that what happens has the probabilities it names."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recsys.simulator.choice import affinity, appeal, choose, in_budget
from recsys.simulator.scene import season_factor
from tests.simulator.small import small_items, small_scene, small_users
from tests.simulator.worlds import load_world

CHOICE = {
    "click_bias": -1.0,
    "click_affinity": 2.0,
    "click_bait": 0.5,
    "click_boredom": 1.0,
    "slot_slope": 0.0,
    "buy_bias": -2.0,
    "buy_affinity": 1.0,
    "buy_quality": 0.5,
    "buy_whale": 0.8,
    "delayed_share": 0.25,
}
ONE = np.array([[1]])


def test_affinity_by_hand() -> None:
    scene = small_scene()
    # 2 topics x (0.8 x 0.75 + 0.2 x 0.25), then x (0.6 x 0.25 + 0.4 x 0.75)
    np.testing.assert_allclose(affinity(scene, np.array([0]), np.array([[1, 2]])), [[1.3, 0.9]], rtol=1e-6)


def test_log_odds_by_hand() -> None:
    scene = small_scene(choice=CHOICE, satisfaction={"boredom_decay": 0.5})
    scene.state.boredom_UT[0, 0], scene.state.last_visit_U[0] = 0.5, 2  # two days ago: a quarter is left
    found = appeal(scene, np.array([0]), ONE)
    likes = math.log(2.3)
    assert found.click_BC[0, 0] == pytest.approx(-1 + 2 * likes + 0.5 * 1 - 0.125, rel=1e-5)
    assert found.buy_BC[0, 0] == pytest.approx(-2 + likes + 0.5 * 2 + 0.8 * 0.5 - 1.5 * 0.2, abs=1e-6)


def test_what_happens_has_the_probabilities_of_the_model() -> None:
    size = 40_000
    done = choose(small_scene(num_users=size, choice=CHOICE), np.full((size, 1), 1))
    likes = math.log(2.3)
    click = 1 / (1 + math.exp(-(-1 + 2 * likes + 0.5)))
    buy = click / (1 + math.exp(-(-2 + likes + 1 + 0.4 - 0.3)))
    for happened, chance in (
        (done.clicked_BK, click),
        (done.bought_BK, 0.75 * buy),
        (done.put_off_BK, 0.25 * buy),
    ):
        assert happened.mean() == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / size))
    assert (done.clicked_BK | ~(done.bought_BK | done.put_off_BK)).all()


def test_luck_goes_with_the_item_not_the_slot() -> None:
    scene = small_scene(num_users=500, choice=CHOICE)
    there = choose(scene, np.tile([1, 2, 3], (500, 1))).clicked_BK
    back = choose(scene, np.tile([3, 2, 1], (500, 1))).clicked_BK
    np.testing.assert_array_equal(there, back[:, ::-1])


def test_a_slot_further_down_is_clicked_less_by_the_slope() -> None:
    size = 40_000
    scene = small_scene(num_users=size, choice=CHOICE | {"slot_slope": 1.5})
    clicked = choose(scene, np.tile([0, 1], (size, 1))).clicked_BK
    assert not clicked[:, 0].any()  # an empty slot
    chance = 1 / (1 + math.exp(-(-1 + 2 * math.log(2.3) + 0.5 - 1.5)))
    assert clicked[:, 1].mean() == pytest.approx(chance, abs=4 * math.sqrt(0.25 / size))


def test_a_cascade_ends_where_nobody_goes_on() -> None:
    sure = CHOICE | {"attention": "cascade", "click_bias": 50.0}
    scene = small_scene(num_users=2000, choice=sure | {"go_on_after_click": 0.0})
    np.testing.assert_array_equal(choose(scene, np.tile([1, 2], (2000, 1))).clicked_BK[0], [True, False])
    scene = small_scene(num_users=20_000, choice=sure | {"go_on_after_click": 0.6, "go_on_after_skip": 0.0})
    clicked = choose(scene, np.tile([1, 2, 3], (20_000, 1))).clicked_BK
    np.testing.assert_allclose(clicked.mean(axis=0), [1, 0.6, 0.36], atol=0.015)


def test_what_does_not_fit_the_budget_is_passed_over() -> None:
    wants = np.array([[True, True, False, True], [True, True, True, True]])
    price = np.array([[6.0, 5.0, 1.0, 4.0], [10.0, 1.0, 1.0, 1.0]])
    bought = in_budget(wants, price, np.array([10.0, 9.0]))
    np.testing.assert_array_equal(bought, [[True, False, False, True], [False, True, True, True]])


def test_drifts_and_shocks_go_by_the_calendar() -> None:
    drift = {"taste_drift_days": 8, "quality_drift_days": 4, "season_amplitude": 0.0, "weekend_factor": 1.0}
    scene = small_scene(day=2, change=drift)
    np.testing.assert_allclose(scene.taste_UT[0], [0.625, 0.375])  # a quarter of the way to (0.25, 0.75)
    np.testing.assert_allclose(scene.quality_V, [0, 0, 0, 0], atol=1e-6)  # half-way from 2 to -2, -1 to 1
    over = small_scene(day=20, change=drift)
    np.testing.assert_allclose(over.quality_V, small_items().later_quality_V)
    np.testing.assert_allclose(over.taste_UT, small_users(1).later_taste_UT)
    shock = {"shock_first_day": 7, "shock_days": 2, "shock_factor": 0.5, "season_amplitude": 0.0}
    change = load_world(change=shock | {"weekend_factor": 3.0}).change
    assert [season_factor(change, day) for day in (4, 5, 6, 7, 8, 9)] == [1, 3, 3, 0.5, 0.5, 1]
