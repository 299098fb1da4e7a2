"""What the indices in feature tables stand for. Later tables may add to it; what is there stays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from recsys.data.tables import FeatureTables
from recsys.schema import InputError, Table

Identity = dict[str, dict[str, Any]]


def vocabulary_identity(tables: FeatureTables) -> Identity:
    """Size and hash of each vocabulary; what a bundle keeps of those it was trained with."""
    return {
        name: {"size": len(entries), "hash": _digest(entries)}
        for name, entries in _vocabularies(tables).items()
    }


def check_continues(known: Identity, tables: FeatureTables) -> None:
    """Raise InputError where an index of the tables no longer stands for what it stood for in `known`."""
    found = _vocabularies(tables)
    for name, identity in known.items():
        entries = found.get(name, [])
        if len(entries) < identity["size"] or _digest(entries[: identity["size"]]) != identity["hash"]:
            raise InputError(
                f"{name} of the tables ({tables.dir}) do not go on from those the bundle was trained with: "
                "an index would stand for something else; retrain on these tables, without a warm start"
            )


def _vocabularies(tables: FeatureTables) -> dict[str, Sequence[Any]]:
    """Entry i of each list is what index i + 1 stands for; items are compared by id (`bundle_fit`)."""
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
