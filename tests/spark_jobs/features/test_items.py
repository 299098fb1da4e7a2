"""Item content: vocabularies fitted on what was known, applied to everything."""

from __future__ import annotations

from math import log
from typing import Any

import pytest

from spark_jobs.features.items import encode, facts_at_cuts, fit_encoding, snapshots
from spark_jobs.features.vocabulary import PriorFit, category_words, count_values, numbered, words_of
from spark_jobs.settings import FeatureSettings
from tests.spark_jobs.shop import seconds

EVENTS = (
    "user_key string, item_id string, event_type string, timestamp long,"
    " order_id string, unit_price double, text string"
)
ITEMS = "item_id string, item_index int, first_seen long"
CUT = seconds(10)
SNAPSHOT = (
    "item_index int, item_id string, first_seen long, valid_from long, known_at long, text string,"
    " price double, popularity long, in_training boolean, field__brand string, tokens__genre array<string>"
)


def test_words_are_lower_case_runs_of_letters_and_digits(spark: Any) -> None:
    frame = spark.createDataFrame([("Crème T-LIGHT, 12 pcs!",), (None,)], "text string").coalesce(1)
    found = [row[0] for row in frame.select(words_of(frame["text"])).collect()]
    assert found == [["crème", "t", "light", "12", "pcs"], []]


def test_values_are_counted_once_a_row_and_ties_go_by_value(spark: Any) -> None:
    frame = spark.createDataFrame([(["b", "b"],), (["a"],), (["c", "a", None],)], "words array<string>")
    counted = count_values(frame, {"words": frame["words"]}, keep=2)
    assert counted == {"words": [("a", 2), ("b", 1)]}


def test_category_words_name_a_kind_of_thing() -> None:
    counted = [("red", 9), ("set", 8), ("mug", 7), ("of", 6), ("t", 5), ("12cm", 4), ("lamp", 3), ("bag", 2)]
    assert category_words(counted, size=2) == ["mug", "lamp"]


def test_a_snapshot_takes_the_latest_text_and_median_price_before_the_cut(spark: Any) -> None:
    def event(
        index: int, day: float, price: float, text: str | None, kind: str = "purchase"
    ) -> tuple[Any, ...]:
        return ("u", str(index) if index else None, kind, seconds(day), "1", price, text)

    events = spark.createDataFrame(
        [
            event(1, 1, 2.0, "OLD NAME"),
            event(1, 2, 4.0, "NEW NAME"),
            event(1, 3, 9.0, None),
            event(1, 4, 9.0, None, "return"),
            event(1, 11, 99.0, "LATER NAME"),
            event(2, 12, 5.0, "FIRST"),
            event(2, 13, 50.0, "SECOND"),
            event(0, 1, 7.0, "OF NO ITEM"),
        ],
        EVENTS,
    )
    items = spark.createDataFrame([("1", 1, seconds(1)), ("2", 2, seconds(12)), ("3", 3, seconds(0))], ITEMS)
    facts = facts_at_cuts(events, [CUT], ["purchase"])
    taken = snapshots(facts, items, None, ties=["order_id"]).collect()
    found = {row["item_index"]: row for row in taken}
    known, new, gone = found[1], found[2], found[3]
    assert (known["text"], known["price"], known["popularity"]) == ("NEW NAME", 6.5, 3)
    assert (known["in_training"], known["known_at"]) == (True, seconds(4))
    assert (new["text"], new["price"], new["popularity"]) == ("FIRST", 5.0, 0)
    assert (new["in_training"], new["known_at"]) == (False, seconds(12))
    assert (gone["text"], gone["price"], gone["in_training"]) == ("", None, False)

    facts = facts_at_cuts(events, [CUT, seconds(13)], ["purchase"])
    rows = snapshots(facts, items, None, ties=["order_id"]).collect()
    assert {row["item_index"]: row for row in rows if row["valid_from"] == CUT} == found
    new = next(row for row in rows if row["item_index"] == 2 and row["valid_from"] != CUT)
    assert (new["text"], new["price"], new["popularity"]) == ("SECOND", 27.5, 2)
    assert (new["in_training"], new["known_at"]) == (True, seconds(13))


@pytest.fixture
def snapshot(spark: Any) -> Any:
    def row(index: int, text: str, price: float | None, *, known: bool, brand: str | None) -> tuple[Any, ...]:
        return (
            index,
            str(index),
            0,
            CUT,
            0,
            text,
            price,
            0,
            known,
            brand,
            ["genre=x"] if index == 1 else None,
        )

    return spark.createDataFrame(
        [
            row(1, "RED MUG", 1.0, known=True, brand="b"),
            row(2, "BLUE MUG MUG", 2.0, known=True, brand="a"),
            row(3, "red lamp", 4.0, known=True, brand="b"),
            row(4, "LAMP POST MUG", 100.0, known=False, brand="unseen"),
            row(5, "", None, known=False, brand=None),
        ],
        SNAPSHOT,
    )


def test_encoding_is_fitted_on_known_items_only(snapshot: Any) -> None:
    settings = FeatureSettings(category_words=5, price_bands=2, max_tokens=4, min_token_items=1)
    encoding = fit_encoding(snapshot.where("in_training"), settings, has_price=True)
    # rows that have the word: mug 2, red 2, blue 1, genre=x 1, lamp 1
    assert encoding.vocabularies.tokens == {"mug": 1, "red": 2, "blue": 3, "genre=x": 4}
    assert encoding.vocabularies.category == {"mug": 1, "lamp": 2}
    assert encoding.vocabularies.fields == {"brand": {"b": 1, "a": 2}}
    assert encoding.price_thresholds == [2.0]
    assert encoding.fields == [
        {"name": "category", "size": 2},
        {"name": "brand", "size": 2},
        {"name": "price_band", "size": 2},
    ]
    assert encoding.log_price_mean == pytest.approx(log(2))  # of log 1, log 2, log 4
    assert encoding.log_price_std == pytest.approx(log(2) * (2 / 3) ** 0.5)

    found = {row["item_index"]: row for row in encode(snapshot, encoding).collect()}
    assert [found[i]["tokens"] for i in range(1, 6)] == [[2, 1, 4], [3, 1, 1], [2], [1], []]
    assert [found[i]["categorical"] for i in range(1, 6)] == [
        [1, 1, 1],
        [1, 2, 1],
        [2, 1, 2],
        [1, 0, 2],
        [0, 0, 0],
    ]
    assert found[2]["numeric"] == [pytest.approx(0.0)]
    assert found[3]["numeric"] == [pytest.approx((3 / 2) ** 0.5)]
    assert found[5]["numeric"] == [0.0]


def test_what_an_earlier_version_fitted_keeps_its_place(snapshot: Any) -> None:
    prior = PriorFit(
        tokens=["gone", "red"],
        category=["gone", "lamp"],
        item_fields={"brand": ["a"], "dropped": ["x"]},
        price_band_thresholds=[7.0],
        log_price={"mean": 0.5, "std": 2.0},
    )
    settings = FeatureSettings(category_words=5, price_bands=2, max_tokens=4, min_token_items=1)
    encoding = fit_encoding(snapshot.where("in_training"), settings, has_price=True, prior=prior)
    assert encoding.vocabularies.tokens == {"gone": 1, "red": 2, "mug": 3, "blue": 4}
    assert encoding.vocabularies.category == {"gone": 1, "lamp": 2, "mug": 3}
    assert encoding.vocabularies.fields == {"brand": {"a": 1, "b": 2}}
    assert encoding.price_thresholds == [7.0]
    assert (encoding.log_price_mean, encoding.log_price_std) == (0.5, 2.0)


def test_a_full_vocabulary_takes_nothing_new_and_loses_nothing() -> None:
    assert numbered(["c", "a"], prior=["a", "b"], size=1) == {"a": 1, "b": 2}
    assert numbered(["c", "a", "d"], prior=["a", "b"], size=3) == {"a": 1, "b": 2, "c": 3}
