"""Activity up to a cut and money after it, with returns dated, worked out by hand."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pyspark.sql import functions as F

from recsys.schema import UserNumeric
from spark_jobs.features import users as steps
from tests.spark_jobs.shop import DAY, seconds

EVENTS = (
    "user_index int, event_type string, timestamp long, anchor_timestamp long, returned_at long,"
    " order_id string, value double, profile__country string"
)
CUTS = [(seconds(100), "validation"), (seconds(130), "test")]


def at_cuts(events: Any, cuts: list[tuple[int, str]], **more: Any) -> Any:
    keyed = events.withColumn("user_key", F.concat(F.lit("k"), "user_index")).drop("user_index")
    found = steps.users_at_cuts(steps.activity(keyed, [cut for cut, _ in cuts]), cuts, **more)
    return found.withColumn("user_index", F.substring("user_key", 2, 9).cast("int"))


@pytest.fixture(scope="module")
def rows(spark: Any) -> dict[tuple[int, int], Any]:
    def event(
        user: int,
        day: float,
        value: float,
        order: str | None,
        *,
        of: float | None = None,
        back: float = 0,
        land: str,
    ) -> tuple[Any, ...]:
        kind = "return" if of is not None else "purchase"
        anchor = seconds(day if of is None else of)
        return (user, kind, seconds(day), anchor, seconds(back) if back else 0, order, value, land)

    events = spark.createDataFrame(
        [
            event(1, 20, 50.0, "a", land="UK"),
            event(1, 20, 10.0, "a", land="UK"),
            event(1, 80, 30.0, "b", back=110, land="UK"),
            event(1, 90, -20.0, "c", of=20, land="UK"),
            event(1, 100, 5.0, "d", land="FR"),  # on the cut: known
            event(1, 105, 8.0, "e", back=125, land="DE"),
            event(1, 105.5, 7.0, "e", land="DE"),
            event(1, 110, -30.0, "f", of=80, land="DE"),
            event(1, 125, -8.0, "g", of=105, land="DE"),
            event(2, 120, 1.0, None, land="IT"),
        ],
        EVENTS,
    )
    frame = at_cuts(events, CUTS, horizons_days=[10, 30], last_timestamp=seconds(140))
    vocabulary = {"country": {"UK": 1, "FR": 2}}
    features = steps.user_features(frame, None, vocabulary)
    targets = steps.value_targets(frame, horizons_days=[10, 30])
    examples = steps.examples(frame, window_days=15)
    found: dict[tuple[int, int], Any] = {}
    for name, table, cut in (("f", features, "valid_from"), ("t", targets, "cut"), ("e", examples, "cut")):
        for row in table.collect():
            day = (row[cut] - seconds(0)) // 86_400
            found.setdefault((row["user_index"], day), {})[name] = row
    return found


def test_features_at_the_cut(rows: dict[tuple[int, int], Any]) -> None:
    row = rows[1, 100]["f"]
    expected = {
        UserNumeric.NUM_EVENTS: 5,
        UserNumeric.NUM_ORDERS: 3,  # a, b, d
        UserNumeric.NUM_ACTIVE_DAYS: 4,
        UserNumeric.RECENCY_DAYS: 0,
        UserNumeric.TENURE_DAYS: 80,
        UserNumeric.SPEND: 75,  # 50 + 10 + 30 - 20 + 5; the return on day 110 is not known yet
        UserNumeric.SPEND_30D: 35,  # days (70, 100]: 30 + 5; the return is of a purchase before
        UserNumeric.SPEND_90D: 75,
    }
    assert {name: row[name] for name in UserNumeric.ALL} == pytest.approx(expected)
    assert row["profile"] == [2]  # FR
    assert row["known_at"] == seconds(100)
    assert rows[1, 130]["f"][UserNumeric.SPEND] == pytest.approx(75 + 15 - 38)
    assert rows[1, 130]["f"]["profile"] == [0]  # DE was never seen in training


def test_targets_count_what_was_kept_by_the_end_of_the_horizon(rows: dict[tuple[int, int], Any]) -> None:
    row = rows[1, 100]["t"]
    # (100, 110]: 8 + 7; the -30 is of a purchase before the cut. By day 130 the 8 has come back.
    assert row["spend"] == [15.0, 7.0]
    assert row["num_purchases"] == [2, 1]
    assert row["num_active_days"] == [3, 4]  # 104-105, 105-106, 109-110 | 124-125 as well
    assert row["next_active_days"] == pytest.approx(5.0)
    assert row["observed_days"] == pytest.approx(40.0)


def test_who_does_not_come_back_has_no_next_day(rows: dict[tuple[int, int], Any]) -> None:
    row = rows[1, 130]["t"]
    assert (row["spend"], row["next_active_days"]) == ([0.0, 0.0], None)


def test_new_users_are_examples_only_within_the_window(rows: dict[tuple[int, int], Any]) -> None:
    assert rows[1, 100]["e"]["prefix_length"] == 5
    assert (2, 100) not in rows  # first seen 20 days after the cut, the window is 15
    assert rows[2, 130]["e"]["prefix_length"] == 1
    assert rows[2, 130]["f"][UserNumeric.NUM_ORDERS] == 1  # no order id: the moment counts as the order


def test_a_new_user_within_the_window_is_cold(spark: Any) -> None:
    events = spark.createDataFrame([(3, "purchase", seconds(110), seconds(110), 0, None, 1.0, "UK")], EVENTS)
    cuts = [*CUTS, (seconds(95), "train")]
    frame = at_cuts(events, cuts, horizons_days=[10], last_timestamp=seconds(140))
    found = {
        (row["cut"], row["split"], row["prefix_length"])
        for row in steps.examples(frame, window_days=15).collect()
    }
    assert found == {(seconds(100), "validation", 0), (seconds(130), "test", 1)}
    assert {row["cut"] for row in steps.value_targets(frame, horizons_days=[10]).collect()} == {seconds(130)}


def test_days_and_orders_are_those_that_sets_would_count(spark: Any) -> None:
    """On many events, some at one moment, orders over several days, and a cut within a day."""
    draw = random.Random(0)
    events = [
        (user, draw.choice(["purchase", "view"]), at, at, 0, draw.choice(["a", "b", "c", None]), 1.0, "UK")
        for user in (1, 2, 3)
        for at in (seconds(draw.randrange(40) / 4 + 90) for _ in range(25))
    ]
    cuts = [(seconds(95), "test"), (seconds(97.3), "now")]
    frame = at_cuts(spark.createDataFrame(events, EVENTS), cuts, horizons_days=[3], last_timestamp=0)
    found = {(row["user_index"], row["cut"]): row for row in frame.collect()}
    assert len(found) == 6
    for (user, cut), row in found.items():
        own = [(kind, at, order) for who, kind, at, _, _, order, _, _ in events if who == user]
        known = [(kind, at, order) for kind, at, order in own if at <= cut]
        after = [at for _, at, _ in own if cut < at <= cut + 3 * DAY]
        orders = {order or str(at) for kind, at, order in known if kind == "purchase"}
        assert row[f"known__{UserNumeric.NUM_ORDERS}"] == len(orders)
        assert row[f"known__{UserNumeric.NUM_ACTIVE_DAYS}"] == len({at // DAY for _, at, _ in known})
        assert row["after__num_active_days_3"] == len({(at - cut - 1) // DAY for at in after})


def test_now_knows_everyone_and_leaves_the_other_cuts_as_they_are(spark: Any) -> None:
    events = spark.createDataFrame(
        [
            (1, "purchase", seconds(90), seconds(90), 0, "a", 5.0, "UK"),
            (1, "purchase", seconds(140), seconds(140), 0, "b", 7.0, "UK"),
            (4, "purchase", seconds(136), seconds(136), 0, "c", 3.0, "UK"),  # after the test window of 5 days
        ],
        EVENTS,
    )

    def tables(cuts: list[tuple[int, str]]) -> list[set[Any]]:
        frame = at_cuts(events, cuts, horizons_days=[10], last_timestamp=seconds(140))
        found = (
            steps.examples(frame, window_days=5),
            steps.user_features(frame, None, {}).drop("profile"),
            steps.value_targets(frame, horizons_days=[10]).select("user_index", "cut", "observed_days"),
        )
        return [{tuple(row) for row in table.collect()} for table in found]

    examples, features, targets = tables([*CUTS, (seconds(140), "now")])
    at_now = {row for row in examples if row[1] == seconds(140)}
    assert at_now == {(1, seconds(140), "now", 2), (4, seconds(140), "now", 1)}
    # events, orders, days, recency and tenure in days, money in all and in the last 30 and 90 days
    assert {row for row in features if row[2] == seconds(140)} == {
        (1, "k1", seconds(140), seconds(140), 2, 2, 2, 0, 50, 12, 7, 12),
        (4, "k4", seconds(140), seconds(136), 1, 1, 1, 4, 4, 3, 3, 3),
    }
    assert {row[1] for row in targets} == {seconds(100), seconds(130)}
    assert {row for row in examples if row not in at_now} == {
        (1, seconds(100), "validation", 1),
        (1, seconds(130), "test", 1),
    }
    before = tables(CUTS)
    assert before[0] == examples - at_now
    assert before[1] == {row for row in features if row[2] != seconds(140)}
    assert before[2] == targets
