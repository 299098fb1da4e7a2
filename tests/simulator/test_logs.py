"""Event rows against what happened."""

from __future__ import annotations

import numpy as np

from recsys.schema import SECONDS_PER_DAY
from recsys.simulator.logs import FIRST_DAY, event_rows, item_columns, user_columns
from recsys.simulator.market import Market
from recsys.simulator.policies import Ranked, expected_revenue
from recsys.simulator.truth import Ledger
from tests.simulator.worlds import load_world


def test_rows_tell_what_happened_and_their_money_is_the_spend() -> None:
    market = Market(world=load_world(choice={"buy_bias": 0.0}), num_users=300, num_items=200, seed=1)
    policy = Ranked(expected_revenue, slate_size=5, shelf_size=20)
    ledger, spend_U = Ledger(market, discount_per_day=1.0), np.zeros(300)
    for _ in range(20):
        day = market.day(policy)
        ledger.add(day)
        rows = event_rows(day)
        kinds = {kind: rows["kind_R"] == kind for kind in ("view", "cart", "purchase", "search")}
        assert kinds["view"].sum() == day.done.clicked_BK.sum()
        assert kinds["cart"].sum() == day.done.put_off_BK.sum()
        assert kinds["purchase"].sum() == day.done.bought_BK.sum() + len(day.late_user_R)
        assert kinds["search"].sum() == (day.found_B > 0).sum()
        np.testing.assert_array_equal(np.isfinite(rows["value_R"]), kinds["purchase"])
        np.testing.assert_array_equal(np.isfinite(rows["dwell_s_R"]), kinds["view"])
        assert (rows["dwell_s_R"][kinds["view"]] >= 1).all()
        assert (rows["timestamp_R"] // SECONDS_PER_DAY == FIRST_DAY // SECONDS_PER_DAY + day.scene.day).all()
        followed = rows["row_R"] >= 0
        np.testing.assert_array_equal(day.scene.user_B[rows["row_R"][followed]], rows["user_R"][followed])
        assert not followed[kinds["search"]].any()
        paid = kinds["purchase"]
        np.add.at(spend_U, rows["user_R"][paid], rows["value_R"][paid])
        keys = list(zip(rows["user_R"], rows["timestamp_R"], rows["kind_R"], rows["item_R"], strict=True))
        assert len(set(keys)) == len(keys)
    np.testing.assert_allclose(spend_U, ledger.spend_U)
    assert ledger.spend_U.sum() > 0


def test_searches_follow_taste() -> None:
    market = Market(world=load_world(choice={"search_share": 1.0}), num_users=3000, num_items=400, seed=1)
    day = market.day(Ranked(expected_revenue, slate_size=5, shelf_size=20))
    topic_B = market.items.topic_V[day.found_B]
    share_BT = market.users.taste_UT[day.scene.user_B]
    searched = np.bincount(topic_B, minlength=16) / len(topic_B)
    np.testing.assert_allclose(searched, share_BT.mean(axis=0), atol=0.03)
    own = share_BT[np.arange(len(topic_B)), topic_B].mean()  # the mean of sum of squares, by taste
    np.testing.assert_allclose(own, (share_BT**2).sum(axis=1).mean(), atol=0.03)


def test_tables_of_users_and_items_name_everybody_once() -> None:
    market = Market(world=load_world(), num_users=30, num_items=20, seed=1)
    users, items = user_columns(market.users), item_columns(market.items)
    assert users["user_id"] == [f"u{n}" for n in range(30)]
    assert items["item_id"] == [f"i{n}" for n in range(1, 21)]
    market.users.arrival_U[:2] = [29, 30]
    assert user_columns(market.users)["cohort"][:2] == ["days 0 to 29", "days 30 to 59"]
    assert {len(column) for column in items.values()} == {20}
