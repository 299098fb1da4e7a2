"""What the market's items and users are, in the indices of published feature tables.

Knows conf/dataset/market.yaml. What a vocabulary lacks is 0.

Legend: that of recsys.simulator, F fields, T words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.schema import PAD
from recsys.simulator.items import Items
from recsys.simulator.logs import item_columns, user_columns
from recsys.simulator.users import Users

Vocabularies = Mapping[str, Any]  # what is in vocabularies.json of the tables


@dataclass(frozen=True)
class ItemContents:
    """By the market's own number, 0 pads. field_VF: fields in the order of the tables; price_V: money."""

    field_VF: np.ndarray
    token_VT: np.ndarray
    text_V: np.ndarray
    price_V: np.ndarray


def item_contents(items: Items, vocabularies: Vocabularies) -> ItemContents:
    """Of every item, there already or not."""
    columns = item_columns(items)
    text_V = ["", *(str(text) for text in columns["text"])]
    known = _indices(vocabularies["tokens"])
    words = [[known[word] for word in text.split() if word in known] for text in text_V]
    token_VT = np.zeros((len(words), max(map(len, words))), np.int64)
    for number, row in enumerate(words):
        token_VT[number, : len(row)] = row
    bands = np.floor(np.log2(items.price_V[1:])).astype(int)
    values = {"category": list(columns["category"]), "price_band": [str(band) for band in bands.tolist()]}
    field_VF = [
        np.r_[PAD, _encoded(values[name], known)] for name, known in vocabularies["item_fields"].items()
    ]
    return ItemContents(np.column_stack(field_VF), token_VT, np.array(text_V, object), items.price_V)


def user_profiles(users: Users, vocabularies: Vocabularies) -> np.ndarray:
    """(U, F): profile fields in the order of the tables."""
    columns = user_columns(users)
    profile_UF = [_encoded(columns[name], known) for name, known in vocabularies["profile_fields"].items()]
    return np.column_stack(profile_UF)


def _encoded(values: Sequence[Any], known: Sequence[str]) -> np.ndarray:
    indices = _indices(known)
    return np.array([indices.get(value, PAD) for value in values], np.int64)


def _indices(known: Sequence[str]) -> dict[str, int]:
    return {value: index for index, value in enumerate(known, 1)}
