"""Features that a data set's YAML drops: which names there are, and that nothing of them is left."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from recsys.schema import InputError
from recsys.settings import read_settings
from spark_jobs.dropped import droppable, prior_without, without_dropped
from spark_jobs.features.vocabulary import PriorFit
from spark_jobs.ledger import shape_of
from spark_jobs.settings import Dataset, FeatureSettings
from tests.spark_jobs import shop

GIVEN: dict[str, Any] = {
    "name": "shop",
    "events": {"path": "log.csv", "format": "csv"},
    "columns": {
        "user_id": "u",
        "item_id": "i",
        "timestamp": "t",
        "event_type": "'purchase'",
        "value": "v",
        "text": "title",
        "profile": {"country": "c", "tier": "k"},
    },
    "items": {
        "source": {"path": "items.csv", "format": "csv"},
        "item_id": "i",
        "fields": {"brand": "b", "colour": "f"},
        "tokens": {"genre": "g"},
    },
    "users": {"source": {"path": "users.csv", "format": "csv"}, "user_id": "u", "profile": {"age": "a"}},
    "event_types": ["purchase"],
    "target_event_types": ["purchase"],
    "split": {"kind": "leave_one_out"},
    "quality": {"min_text_share": 0.9},
}


def dropping(*names: str, category_words: int = 5) -> Dataset:
    features = {"category_words": category_words, "drop": list(names)}
    return read_settings(Dataset, GIVEN | {"features": features})


def test_every_feature_of_a_data_set_has_a_name() -> None:
    assert droppable(dropping()) == [
        *("text", "category", "brand", "colour", "genre", "price", "price_band", "log_price"),
        *("country", "tier", "age"),
    ]
    bare = dataclasses.replace(shop.dataset(Path("raw.parquet")), features=FeatureSettings())
    assert droppable(bare) == ["text", "price", "price_band", "log_price", "country"]


def test_what_is_dropped_stands_in_no_setting() -> None:
    left = without_dropped(dropping("tier", "age", "colour", "genre"))
    assert left.items is not None
    assert left.users is not None
    assert (left.columns.profile, left.users.profile) == ({"country": "c"}, {})
    assert (left.items.fields, left.items.tokens) == ({"brand": "b"}, {})
    assert (left.columns.text, left.features.category_words) == ("title", 5)


def test_without_text_no_share_of_it_is_asked_for_and_no_word_names_a_category() -> None:
    left = without_dropped(dropping("text"))
    assert (left.columns.text, left.features.category_words) == (None, 0)
    assert left.quality == {"min_text_share": None}
    assert without_dropped(dropping("category")).columns.text == "title"
    assert without_dropped(dropping()) == dropping()


def test_the_hash_of_how_lines_are_read_is_the_same_for_a_data_set_before_and_after_the_drop() -> None:
    for name in ("tier", "text", "brand", "age"):
        given = dropping(name)
        assert shape_of(given, "key") == shape_of(without_dropped(given), "key")
    assert shape_of(dropping("tier"), "key") != shape_of(dropping(), "key")
    assert shape_of(dropping("brand"), "key") == shape_of(dropping(), "key")  # no line is read by it


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shoe_size", r"data set shop has no feature 'shoe_size'; it has text, category, brand, colour"),
        ("spend_30d", r"spend_30d cannot be dropped: the rates and silences that value is assessed by"),
    ],
)
def test_other_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        without_dropped(dropping("age", name))


def telling(*names: str) -> Dataset:
    """With dwell, queries and a follow graph."""
    columns = GIVEN["columns"] | {"dwell_s": "d", "query": "q"}
    graph = {"source": {"path": "follows.csv", "format": "csv"}, "user_id": "u", "other_id": "o"}
    split = {"kind": "time", "test_days_before_end": 30, "horizons_days": [7]}
    told = {"columns": columns, "graph": graph, "split": split, "features": {"drop": list(names)}}
    return read_settings(Dataset, GIVEN | told)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("graph", r"graph is not dropped here; leave graph out of data set shop$"),
        ("num_followers", r"num_followers is not dropped here; leave graph out of data set shop$"),
        ("num_following", r"num_following is not dropped here; leave graph out of data set shop$"),
        ("dwell_s", r"dwell_s is not dropped here; leave columns\.dwell_s out of data set shop$"),
        ("query", r"query is not dropped here; leave columns\.query out of data set shop$"),
        ("text", r"without text no word of a search is known.*leave columns\.query out as well$"),
    ],
)
def test_what_is_told_by_a_setting_of_its_own_is_left_out_there(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        without_dropped(telling("age", name))
    if name != "text":
        with pytest.raises(InputError, match=f"has no feature {name!r}"):
            without_dropped(dropping(name))
    assert without_dropped(telling("age")).columns.query == "q"


def test_words_of_dropped_features_are_not_gone_on_with() -> None:
    prior = PriorFit(tokens=["red", "genre=war", "mug", "maker=b"], category=["mug"])
    assert prior_without(prior, []) == prior
    left = prior_without(prior, ["genre"])
    assert (left.tokens, left.category) == (["red", "mug", "maker=b"], ["mug"])
    left = prior_without(prior, ["text"])
    assert (left.tokens, left.category) == (["genre=war", "maker=b"], ())
