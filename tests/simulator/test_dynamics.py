"""Satisfaction, boredom, gaps and leaving for good by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recsys.simulator.choice import Choices, appeal
from recsys.simulator.dynamics import after_late_purchases, expected_change, leave_behind
from recsys.simulator.items import NEVER
from tests.simulator.small import small_scene

EFFECTS = {
    "memory": 0.9,
    "from_clicks": 0.1,
    "from_purchases": 0.05,
    "from_boredom": 0.2,
    "saturation": 0.0,
    "boredom_gain": 0.5,
    "boredom_decay": 0.5,
}
SLATE = np.array([[1, 2]])
CLICKED_BOUGHT = Choices(np.array([[True, False]]), np.array([[True, False]]), np.zeros((1, 2), bool))


def test_a_visit_by_hand() -> None:
    scene = small_scene(satisfaction=EFFECTS)
    state = scene.state
    state.satisfaction_U[0], state.boredom_UT[0], state.last_visit_U[0] = 1.0, [0.8, 0.0], 3
    leave_behind(scene, SLATE, CLICKED_BOUGHT)
    # boredom before: (0.4, 0), half of the slate each: mean 0.2
    # 0.9 x 1 + 2 x (0.1 x (2 - 1) + 0.05 x 2) - 0.2 x 0.2
    assert state.satisfaction_U[0] == pytest.approx(0.9 + 0.4 - 0.04, rel=1e-6)
    np.testing.assert_allclose(state.boredom_UT[0], [0.4 + 0.25, 0.25], rtol=1e-6)
    assert state.last_visit_U[0] == 4


def test_a_visit_saturates_where_the_world_says_so() -> None:
    scene = small_scene(satisfaction=EFFECTS | {"saturation": 0.3})
    leave_behind(scene, SLATE, CLICKED_BOUGHT)
    assert scene.state.satisfaction_U[0] == pytest.approx(0.3 * math.tanh(0.4 / 0.3), rel=1e-5)


def test_late_purchases_satisfy_as_much() -> None:
    scene = small_scene(num_users=2, satisfaction=EFFECTS)
    after_late_purchases(scene, np.array([1, 1]), np.array([1, 2]))
    np.testing.assert_allclose(scene.state.satisfaction_U, [0, 2 * 0.05 * (2 - 1)], rtol=1e-6)


def test_expected_change_is_the_mean_of_what_happens() -> None:
    scene = small_scene(satisfaction=EFFECTS)
    user, item = np.array([0]), np.array([[1]])
    wanted = appeal(scene, user, item)
    click, buy = (1 / (1 + math.exp(-float(x[0, 0]))) for x in wanted)
    found = expected_change(scene, user, item, wanted, scene.world.satisfaction)
    assert found[0, 0] == pytest.approx(2 * click * (0.1 * (2 - 1) + 0.05 * 2 * buy), rel=1e-5)


def test_gaps_are_geometric_and_satisfaction_shortens_them() -> None:
    size = 40_000
    scene = small_scene(
        num_users=size, returns={"daily_return": 0.5, "return_effect": 1.0, "daily_hazard": 0.0}
    )
    scene.state.satisfaction_U[size // 2 :] = math.log(3) / scene.world.satisfaction.memory
    nothing = Choices(*(np.zeros((size, 1), bool) for _ in range(3)))
    leave_behind(scene, np.zeros((size, 1), int), nothing)
    gap = scene.state.next_visit_U - scene.day
    assert gap.min() == 1
    assert gap[: size // 2].mean() == pytest.approx(2, abs=0.05)  # 1 / 0.5
    assert gap[size // 2 :].mean() == pytest.approx(4 / 3, abs=0.05)  # odds 1 x 3: 1 / 0.75
    assert (scene.state.churned_at_U == NEVER).all()


def test_leaving_for_good_is_exponential_within_the_gap() -> None:
    size = 40_000
    returns = {"daily_return": 0.9999, "return_effect": 0.0, "daily_hazard": 0.1, "hazard_effect": 1.0}
    scene = small_scene(num_users=size, returns=returns)
    scene.state.satisfaction_U[size // 2 :] = 1 / scene.world.satisfaction.memory
    leave_behind(scene, np.zeros((size, 1), int), Choices(*(np.zeros((size, 1), bool) for _ in range(3))))
    left = scene.state.churned_at_U != NEVER
    assert left[: size // 2].mean() == pytest.approx(1 - math.exp(-0.1), abs=0.01)
    assert left[size // 2 :].mean() == pytest.approx(1 - math.exp(-0.1 / math.e), abs=0.01)
    np.testing.assert_array_equal(scene.state.next_visit_U[left], NEVER)
    assert (scene.state.churned_at_U[left] <= scene.day + 2).all()
