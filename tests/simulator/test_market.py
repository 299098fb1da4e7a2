"""Common random numbers, budgets, leaving for good, going on from a file, and slates that cannot be shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from recsys.schema import InputError
from recsys.simulator.market import BUDGET_DAYS, Market
from recsys.simulator.policies import Ranked, Slate, expected_clicks, expected_revenue
from recsys.simulator.scene import Scene
from recsys.simulator.truth import Ledger
from tests.simulator.worlds import load_world, run, slate

USERS, ITEMS, DAYS = 200, 300, 70


def market(**groups: dict) -> Market:
    return Market(world=load_world(**groups), num_users=USERS, num_items=ITEMS, seed=3)


def myopic() -> Ranked:
    return Ranked(expected_revenue, slate_size=10, shelf_size=5)


def arrays(place: Market) -> dict[str, np.ndarray]:
    return {
        field.name: np.asarray(getattr(place.state, field.name)) for field in dataclasses.fields(place.state)
    }


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    for name, array in a.items():
        np.testing.assert_array_equal(array, b[name], err_msg=name)


def test_the_same_policy_twice_is_the_same() -> None:
    first, second = market(), market()
    run(first, myopic(), DAYS)
    run(second, myopic(), DAYS)
    assert first.state.num_opened_V.sum() > 0
    assert_same(arrays(first), arrays(second))


def test_what_one_user_is_shown_changes_nobody_else() -> None:
    other_user, ranked, clicks = 7, myopic(), Ranked(expected_clicks, slate_size=10, shelf_size=5)

    def policy(scene: Scene) -> Slate:
        shown, other = ranked(scene), clicks(scene)
        is_other_B = scene.user_B == other_user
        return slate(np.where(is_other_B[:, None], other.item_BK, shown.item_BK))

    base, changed = market(users={"arrived_share": 1.0}), market(users={"arrived_share": 1.0})
    ledgers = [Ledger(place, discount_per_day=0.999) for place in (base, changed)]
    for _ in range(DAYS):
        ledgers[0].add(base.day(ranked))
        ledgers[1].add(changed.day(policy))
    rest_U = np.arange(USERS) != other_user
    for name in ("satisfaction_U", "boredom_UT", "next_visit_U", "churned_at_U", "spent_U"):
        a, b = arrays(base)[name], arrays(changed)[name]
        np.testing.assert_array_equal(a[rest_U], b[rest_U], err_msg=name)
    np.testing.assert_array_equal(ledgers[0].value_U[rest_U], ledgers[1].value_U[rest_U])
    assert base.state.satisfaction_U[other_user] != changed.state.satisfaction_U[other_user]


def test_nobody_spends_more_than_the_budget_in_its_days() -> None:
    place = market(users={"budget_mean": 15.0}, choice={"buy_bias": 2.0, "click_bias": 0.0})
    spent_MU = np.zeros((DAYS // BUDGET_DAYS + 1, USERS))
    for day in run(place, myopic(), DAYS):
        month = day.scene.day // BUDGET_DAYS
        np.add.at(spent_MU[month], day.scene.user_B, day.spend_BK.sum(axis=1))
        np.add.at(spent_MU[month], day.late_user_R, place.items.price_V[day.late_item_R])
    assert (spent_MU <= place.users.budget_U + 1e-9).all()
    assert (spent_MU > 0.5 * place.users.budget_U).mean() > 0.2  # so the bound was felt


def test_who_has_left_never_comes_back_nor_pays() -> None:
    place = market(returns={"daily_hazard": 0.05}, choice={"delayed_share": 0.9, "buy_bias": 0.0})
    days = run(place, myopic(), DAYS)
    assert (place.state.churned_at_U < DAYS).sum() > 20
    assert sum(len(day.late_user_R) for day in days) > 20
    for day in days:
        for user_R in (day.scene.user_B, day.late_user_R):
            assert (place.state.churned_at_U[user_R] > day.scene.day).all()


def test_everybody_comes_on_the_day_of_arrival() -> None:
    place = market()
    first_U = np.full(USERS, -1)
    for day in run(place, myopic(), 95):
        new_B = first_U[day.scene.user_B] < 0
        first_U[day.scene.user_B[new_B]] = day.scene.day
    np.testing.assert_array_equal(first_U, place.users.arrival_U)


def test_a_saved_market_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole, part = market(), market()
    run(whole, myopic(), DAYS)
    run(part, myopic(), 33)
    part.save(tmp_path / "state.npz")
    going_on = Market(
        world=load_world(), num_users=USERS, num_items=ITEMS, seed=3, state_file=tmp_path / "state.npz"
    )
    assert going_on.state.day == 33
    run(going_on, myopic(), DAYS - 33)
    assert_same(arrays(whole), arrays(going_on))


def test_the_state_of_another_market_is_refused(tmp_path: Path) -> None:
    market().save(tmp_path / "state.npz")
    with pytest.raises(InputError, match="another market"):
        Market(
            world=load_world(), num_users=USERS, num_items=ITEMS, seed=4, state_file=tmp_path / "state.npz"
        )
    (tmp_path / "bad.npz").write_bytes(b"PK nonsense")
    for name, words in (("bad.npz", "cannot be read"), ("none.npz", "is not a file")):
        with pytest.raises(InputError, match=words):
            Market(world=load_world(), num_users=USERS, num_items=ITEMS, seed=3, state_file=tmp_path / name)


def test_slates_that_cannot_be_shown_are_refused() -> None:
    place = market()
    unborn = int(np.flatnonzero(place.items.birth_V[1:] > 0)[0]) + 1
    born = place.items.born(0)
    bad = {
        "for .* users": lambda scene: slate(np.ones((1, 2), int)),
        "outside 1 to 300": lambda scene: slate(np.full((len(scene.user_B), 2), [born[0], 301])),
        "before it is there": lambda scene: slate(np.full((len(scene.user_B), 2), [born[0], unborn])),
        "twice": lambda scene: slate(np.full((len(scene.user_B), 3), [born[1], born[0], born[1]])),
    }
    for words, policy in bad.items():
        with pytest.raises(InputError, match=words):
            market().day(policy)
    market().day(lambda scene: slate(np.zeros((len(scene.user_B), 2), int)))  # empty slots are no mistake


@pytest.mark.parametrize("sizes", [{"num_users": 0}, {"num_items": 0}, {"seed": -1}])
def test_odd_sizes_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(InputError, match="does not fit"):
        Market(world=load_world(), **({"num_users": 2, "num_items": 2, "seed": 0} | sizes))


def test_a_market_of_one_user_and_one_item() -> None:
    place = Market(world=load_world(), num_users=1, num_items=1, seed=0)
    days = run(place, Ranked(expected_revenue, slate_size=10, shelf_size=5), 100)
    shown = [day.shown.item_BK[0].tolist() for day in days if len(day.scene.user_B)]
    assert shown
    assert all(items == [1] + [0] * 9 for items in shown)
