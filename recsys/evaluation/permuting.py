"""One feature of what a model reads, dealt out anew among its owners: only they change, not what occurs.

Legend: U users, E events, V items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from recsys.batch import Catalogue
from recsys.data.cut_tables import CutTable
from recsys.data.flat import FlatHistories
from recsys.data.query_words import words_of_events
from recsys.schema import Column

PROFILE, ACTIVITY = "profile", "activity"  # kinds of a feature: columns of CutTable
FIELD, NUMBER, WORDS = "field", "number", "words"  # of the catalogue
EVENT = "event"  # and of the histories
_OF_ITEMS = {FIELD: "categorical_VF", NUMBER: "numeric_VN", WORDS: "tokens_VT"}
TOKENS = "tokens"  # all words of a text and the item table's tokens go together


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A column of its kind; `column` None: all of them together, or the one of its name."""

    name: str
    kind: str
    column: int | None

    @property
    def can_be_dropped(self) -> bool:
        """Whether `features.drop` takes the name; words go as `text` or by the name of their tokens."""
        return self.kind in (PROFILE, FIELD, NUMBER)


@dataclass(frozen=True)
class Inputs:
    """What a model reads of the users of a cut: row u of the table is user u + 1 of the histories."""

    table: CutTable
    catalogue: Catalogue
    histories: FlatHistories


def inputs_of(table: CutTable, catalogue: Catalogue, flat: FlatHistories, *, max_length: int) -> Inputs:
    """With no events but the newest `max_length` before the cut of the table's users, held in memory."""
    length_U = np.minimum(table.prefix_length, max_length)
    offsets = np.r_[0, np.cumsum(length_U)]
    end_U = flat.offsets[table.user_index - 1] + table.prefix_length
    event_E = np.repeat(end_U - offsets[1:], length_U) + np.arange(offsets[-1])
    start, word = flat.word_start, flat.word
    if start is not None and word is not None:
        start, word = words_of_events(event_E, start=start, word=word)
    histories = FlatHistories(
        offsets=offsets,
        item_index=flat.item_index[event_E],
        event_type=flat.event_type[event_E],
        timestamp=flat.timestamp[event_E],
        value=flat.value[event_E],
        returned_at=flat.returned_at[event_E],
        user_key=flat.user_key[table.user_index - 1],
        dwell_s=None if flat.dwell_s is None else flat.dwell_s[event_E],
        word_start=start,
        word=word,
    )
    user_index = np.arange(1, len(length_U) + 1)
    return Inputs(replace(table, user_index=user_index, prefix_length=length_U), catalogue, histories)


def features_of(
    metadata: Mapping[str, Any], *, activity_names: Sequence[str] = (), event_columns: Sequence[str] = ()
) -> list[Feature]:
    """By their names in the metadata; of users' activity and of events those that the model reads."""
    found = [
        *_named(PROFILE, [field["name"] for field in metadata["profile_fields"]]),
        *_named(FIELD, [field["name"] for field in metadata["item_fields"]]),
        *_named(NUMBER, metadata["item_numeric"]),
    ]
    if metadata["num_tokens"]:
        found.append(Feature(name=TOKENS, kind=WORDS, column=None))
    found += [Feature(name=name, kind=EVENT, column=None) for name in event_columns]
    return found + _named(ACTIVITY, activity_names)


def permuted(feature: Feature, inputs: Inputs, rng: np.random.Generator) -> Inputs:
    """With the feature dealt out anew among users with a history, among items (not to padding), or among
    events that tell it."""
    if feature.kind == EVENT:
        return replace(inputs, histories=_of_other_events(feature.name, inputs.histories, rng))
    table, catalogue = inputs.table, inputs.catalogue
    column = slice(None) if feature.column is None else slice(feature.column, feature.column + 1)
    if feature.kind in (PROFILE, ACTIVITY):
        owners = np.flatnonzero(table.prefix_length > 0)
        values = np.array(getattr(table, feature.kind))
        values[owners, column] = values[rng.permutation(owners), column]
        return replace(inputs, table=replace(table, **{feature.kind: values}))  # type: ignore[arg-type]
    owners = np.flatnonzero(catalogue.item_V.numpy() > 0)
    name = _OF_ITEMS[feature.kind]
    dealt = getattr(catalogue, name).clone()
    dealt[torch.from_numpy(owners), column] = dealt[torch.from_numpy(rng.permutation(owners)), column]
    return replace(inputs, catalogue=catalogue._replace(**{name: dealt}))


def _of_other_events(name: str, histories: FlatHistories, rng: np.random.Generator) -> FlatHistories:
    """Dwell goes to other events with a dwell, the words of a search to other searches with words."""
    other_E = np.arange(len(histories.item_index))
    if name == Column.DWELL_S:
        assert histories.dwell_s is not None
        owners = np.flatnonzero(histories.dwell_s > 0)
        other_E[owners] = rng.permutation(owners)
        return replace(histories, dwell_s=histories.dwell_s[other_E])
    assert name == Column.QUERY
    assert histories.word_start is not None
    assert histories.word is not None
    owners = np.flatnonzero(np.diff(histories.word_start))
    other_E[owners] = rng.permutation(owners)
    start, word = words_of_events(other_E, start=histories.word_start, word=histories.word)
    return replace(histories, word_start=start, word=word)


def _named(kind: str, names: Sequence[str]) -> list[Feature]:
    return [Feature(name=name, kind=kind, column=column) for column, name in enumerate(names)]
