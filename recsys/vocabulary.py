"""What the indices in feature tables stand for. Later tables may add to it; what is there stays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from recsys.data.tables import FeatureTables
from recsys.schema import InputError, MisfitError, Split, Table

Identity = dict[str, dict[str, Any]]
ITEMS = "items"


def vocabulary_identity(tables: FeatureTables) -> Identity:
    """Size and hash of each vocabulary; what a bundle keeps of those it was trained with."""
    return {name: identity(entries) for name, entries in _vocabularies(tables).items()}


def identity(entries: Sequence[Any]) -> dict[str, Any]:
    return {"size": len(entries), "hash": _digest(entries)}


def item_identity(item_ids: Sequence[str]) -> Identity:
    """For those who keep no list of the items, as a bundle does; `item_ids` by item_index."""
    return {ITEMS: identity(item_ids[1:])}


def check_continues(known: Identity, tables: FeatureTables) -> None:
    """Raise MisfitError where an index of the tables no longer stands for what it stood for in `known`."""
    found = _vocabularies(tables)
    if ITEMS in known:
        found[ITEMS] = tables.items(Split.TEST).item_id[1:].tolist()
    for name, before in known.items():
        if identity(found.get(name, [])[: before["size"]]) != before:
            raise MisfitError(
                f"{name} of the tables ({tables.dir}) do not go on from those the model was trained with: "
                "an index would stand for something else; retrain on these tables, without a warm start"
            )


def _vocabularies(tables: FeatureTables) -> dict[str, Sequence[Any]]:
    """Entry i of each list is what index i + 1 stands for, but for items."""
    path = tables.dir / Table.VOCABULARIES
    try:
        fitted: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        metadata, event_types = tables.metadata, tables.metadata["event_types"]
        return {
            "event_types": sorted(event_types, key=lambda name: event_types[name]),
            "tokens": fitted["tokens"],
            "category": fitted["category"],
            "price_band_thresholds": fitted["price_band_thresholds"],
            "item_fields": [field["name"] for field in metadata["item_fields"]],
            "profile_fields": [field["name"] for field in metadata["profile_fields"]],
            **{f"values of item field {name}": values for name, values in fitted["item_fields"].items()},
            **{f"values of profile field {name}": v for name, v in fitted["profile_fields"].items()},
        }
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is missing or damaged; run `python -m spark_jobs` again") from error


def _digest(entries: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(list(entries), ensure_ascii=False).encode()).hexdigest()
