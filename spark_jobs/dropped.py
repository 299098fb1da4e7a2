"""`features.drop`: a data set's settings without the features named there, as if they had not stood in them.

So a dropped feature is in no table, no metadata and no vocabulary, and nothing reads its column.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TypeVar

from recsys.schema import Column, InputError, UserNumeric
from spark_jobs.features.items import CATEGORY, LOG_PRICE, PRICE_BAND
from spark_jobs.features.vocabulary import PriorFit
from spark_jobs.settings import Dataset, EventColumns

T = TypeVar("T")


def without_dropped(dataset: Dataset) -> Dataset:
    """The data set as the job reads it. InputError for a name that it has not, or that cannot be dropped."""
    dropped = set(dataset.features.drop)
    if not dropped:
        return dataset
    _check_known(dataset, dropped)
    text, items, users = Column.TEXT in dropped, dataset.items, dataset.users
    if items is not None:
        items = replace(
            items,
            text=None if text else items.text,
            fields=_rest(items.fields, dropped),
            tokens=_rest(items.tokens, dropped),
        )
    if users is not None:
        users = replace(users, profile=_rest(users.profile, dropped))
    quality = dataset.quality | ({"min_text_share": None} if text else {})
    no_words = CATEGORY in dropped or text
    features = replace(dataset.features, category_words=0 if no_words else dataset.features.category_words)
    return replace(
        dataset,
        columns=columns_read(dataset),
        items=items,
        users=users,
        features=features,
        quality=quality,
    )


def columns_read(dataset: Dataset) -> EventColumns:
    """The columns of the log without what is dropped; the same for a data set `without_dropped`."""
    columns, dropped = dataset.columns, set(dataset.features.drop)
    text = None if Column.TEXT in dropped else columns.text
    return replace(columns, text=text, profile=_rest(columns.profile, dropped))


def droppable(dataset: Dataset) -> list[str]:
    """Names of the features that a data set has of its own, as the metadata has them, and `text`, `price`."""
    items, users = dataset.items, dataset.users
    has_text = dataset.columns.text is not None or (items is not None and items.text is not None)
    names = [Column.TEXT] if has_text else []
    names += [CATEGORY] if dataset.features.category_words and has_text else []
    names += [*items.fields, *items.tokens] if items is not None else []
    names += [Column.PRICE, PRICE_BAND, LOG_PRICE] if dataset.has_value else []
    names += [*dataset.columns.profile, *(users.profile if users is not None else ())]
    return list(dict.fromkeys(names))


def left_out_otherwise(dataset: Dataset) -> dict[str, str]:
    """Features that are dropped by leaving out the setting that tells them, with its name."""
    told = {} if dataset.graph is None else dict.fromkeys(("graph", *UserNumeric.GRAPH), "graph")
    for name in (Column.DWELL_S, Column.QUERY):
        if getattr(dataset.columns, name) is not None:
            told[name] = f"columns.{name}"
    return told


def prior_without(prior: PriorFit, dropped: Collection[str]) -> PriorFit:
    """What the last version had fitted, without the words of a dropped feature; the others move up."""

    def stays(word: str) -> bool:
        name, joint, _ = word.partition("=")  # a token of the item table, else a word of the text
        return (name if joint else Column.TEXT) not in dropped

    no_words = {CATEGORY, Column.TEXT} & set(dropped)
    tokens = [word for word in prior.tokens if stays(word)]
    return replace(prior, tokens=tokens, category=() if no_words else prior.category)


def _check_known(dataset: Dataset, dropped: Collection[str]) -> None:
    known = droppable(dataset)
    unknown = sorted(set(dropped) - set(known))
    elsewhere = left_out_otherwise(dataset)
    for name in unknown:
        if name in elsewhere:
            raise InputError(
                f"features.drop: {name} is not dropped here; leave {elsewhere[name]} out of data set"
                f" {dataset.name}"
            )
    if Column.TEXT in dropped and dataset.columns.query is not None:
        raise InputError(
            "features.drop: without text no word of a search is known, since these are of the items' texts;"
            " leave columns.query out as well"
        )
    numeric = [name for name in unknown if name in UserNumeric.ALL]
    if numeric:
        raise InputError(
            f"features.drop: {numeric[0]} cannot be dropped: the rates and silences that value is assessed by"
            f" are made of all of {', '.join(UserNumeric.ALL)} together; name others"
        )
    if unknown:
        raise InputError(
            f"features.drop: data set {dataset.name} has no feature {unknown[0]!r}; it has {', '.join(known)}"
        )


def _rest(named: Mapping[str, T], dropped: Collection[str]) -> dict[str, T]:
    return {name: value for name, value in named.items() if name not in dropped}
