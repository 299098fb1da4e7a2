"""Tables that go on from those a bundle knows are taken; those where an index means another thing are not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recsys.bundle import Bundle
from recsys.bundle_fit import check_meaning
from recsys.schema import InputError, Table
from recsys.vocabulary import check_continues, item_identity, vocabulary_identity

FITTED = {
    "tokens": ["mug", "red", "tea"],
    "category": ["mug", "tea"],
    "price_band_thresholds": [1.5, 4.0],
    "item_fields": {"brand": ["acme", "best"]},
    "profile_fields": {"country": ["UK", "FR"]},
}
METADATA = {
    "dataset": "shop",
    "event_types": {"view": 1, "purchase": 2},
    "item_fields": [{"name": "category", "size": 2}, {"name": "brand", "size": 2}],
    "profile_fields": [{"name": "country", "size": 2}],
}
ITEMS = ["", "A", "B", "C"]


def tables(
    folder: Path, *, items: list[str] = ITEMS, metadata: dict[str, Any] = METADATA, **fitted: Any
) -> Any:
    """Stands where FeatureTables stands, with a vocabularies.json of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / Table.VOCABULARIES).write_text(json.dumps(FITTED | fitted))
    item_id = np.array(items, dtype=object)
    return SimpleNamespace(dir=folder, metadata=metadata, items=lambda _: SimpleNamespace(item_id=item_id))


def bundle(trained_with: Any, items: list[str] = ITEMS) -> Bundle:
    known = {"trained_on": {"dataset": "shop"}, "item_ids": items}
    return SimpleNamespace(**known, vocabularies=vocabulary_identity(trained_with))  # type: ignore[return-value]


@pytest.fixture
def known(tmp_path: Path) -> Bundle:
    return bundle(tables(tmp_path / "known"))


def test_the_same_tables_and_grown_ones_are_taken(known: Bundle, tmp_path: Path) -> None:
    check_meaning(known, tables(tmp_path / "same"))
    grown = tables(
        tmp_path / "grown",
        items=[*ITEMS, "D"],
        metadata=METADATA | {"event_types": {"purchase": 2, "view": 1, "cart": 3}},
        tokens=["mug", "red", "tea", "jar"],
        category=["mug", "tea", "jar"],
        item_fields={"brand": ["acme", "best", "chic"]},
        profile_fields={"country": ["UK", "FR", "DE"]},
    )
    check_meaning(known, grown)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"tokens": ["red", "mug", "tea"]}, "tokens"),
        ({"tokens": ["jar", "mug", "red", "tea"]}, "tokens"),
        ({"tokens": ["mug", "red"]}, "tokens"),
        ({"category": ["tea", "mug"]}, "category"),
        ({"price_band_thresholds": [1.5, 4.5]}, "price_band_thresholds"),
        ({"item_fields": {"brand": ["best", "acme"]}}, "values of item field brand"),
        ({"item_fields": {}}, "values of item field brand"),
        ({"profile_fields": {"country": ["FR", "UK"]}}, "values of profile field country"),
        ({"metadata": METADATA | {"event_types": {"view": 2, "purchase": 1}}}, "event_types"),
        ({"metadata": METADATA | {"item_fields": METADATA["item_fields"][::-1]}}, "item_fields"),  # type: ignore[index]
    ],
)
def test_an_index_with_another_meaning_is_named(
    known: Bundle, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InputError, match=rf"^{complaint} of the tables \(.*do not go on.*retrain") as caught:
        check_meaning(known, tables(tmp_path / "other", **change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        (["", "B", "A", "C"], "item_index 1 is 'B' in the tables and 'A' in the bundle"),
        (["", "A", "X", "B", "C"], "item_index 2 is 'X' in the tables and 'B' in the bundle"),
        (["", "A", "B"], "item_index 3 is None in the tables and 'C' in the bundle"),
        (["", "A", "", "C"], "item_index 2 is '' in the tables and 'B' in the bundle"),
    ],
)
def test_a_renumbered_or_missing_item_is_named(
    known: Bundle, tmp_path: Path, items: list[str], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        check_meaning(known, tables(tmp_path / "other", items=items))


def test_items_are_known_by_a_hash_where_no_list_is_kept(tmp_path: Path) -> None:
    known = item_identity(ITEMS)
    check_continues(known, tables(tmp_path / "same"))
    check_continues(known, tables(tmp_path / "grown", items=[*ITEMS, "D"]))
    for other in (["", "B", "A", "C"], ["", "A", "B"]):
        with pytest.raises(InputError, match=r"^items of the tables .*do not go on"):
            check_continues(known, tables(tmp_path / "other", items=other))


def test_another_data_set_is_named_first(known: Bundle, tmp_path: Path) -> None:
    other = tables(tmp_path / "other", items=["", "X"], metadata=METADATA | {"dataset": "films"})
    with pytest.raises(InputError, match="trained on shop, the tables are of films"):
        check_meaning(known, other)


def test_tables_without_their_vocabularies_are_refused(known: Bundle, tmp_path: Path) -> None:
    given = tables(tmp_path / "bare")
    (given.dir / Table.VOCABULARIES).write_text("{}")
    with pytest.raises(InputError, match=r"vocabularies\.json is missing or damaged"):
        check_continues(known.vocabularies, given)
    (given.dir / Table.VOCABULARIES).unlink()
    with pytest.raises(InputError, match=r"vocabularies\.json is missing or damaged"):
        vocabulary_identity(given)
