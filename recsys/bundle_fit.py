"""Whether a bundle can score feature tables, and which of their items it knows by id."""

from __future__ import annotations

import datetime
from itertools import zip_longest

import numpy as np
import torch

from recsys.batch import Catalogue
from recsys.build import catalogue_at
from recsys.bundle import Bundle
from recsys.data.cut_features import num_cut_features
from recsys.data.tables import FeatureTables
from recsys.schema import InputError, MisfitError, Split
from recsys.vocabulary import check_continues
from recsys.warm_start import Start


def check_meaning(bundle: Bundle, tables: FeatureTables) -> None:
    """Raise MisfitError where an index of the tables stands for something else than in training.

    Tables of the same data set go on from those before them: items and words come to the end.
    """
    check_dataset(bundle, tables)
    item_id_V = tables.items(Split.TEST).item_id
    for index, (old, new) in enumerate(zip_longest(bundle.item_ids, item_id_V[: len(bundle.item_ids)])):
        if old != new:
            raise MisfitError(
                f"item_index {index} is {new!r} in the tables and {old!r} in the bundle: the tables were "
                "begun anew or are older; retrain on these tables, without a warm start"
            )
    check_continues(bundle.vocabularies, tables)


def check_fit(bundle: Bundle, tables: FeatureTables) -> None:
    """Raise MisfitError where the bundle cannot score these tables, InputError where they are of another data
    set.

    Words and values that came after its training are unknown to it (`nn.learned`).
    """
    check_dataset(bundle, tables)
    metadata, config = tables.metadata, bundle.model.config
    if tables.num_items > config.item_tower.capacity:
        raise MisfitError(
            f"the tables have {tables.num_items:,} items, the bundle's id table holds "
            f"{config.item_tower.capacity:,}; reshard it or retrain on these tables"
        )
    for what, learned in (
        ("item_fields", len(config.item_tower.field_sizes)),
        ("profile_fields", len(config.profile_sizes)),
        ("item_numeric", config.item_tower.num_numeric),
    ):
        if len(metadata[what]) != learned:
            raise MisfitError(
                f"the tables have {len(metadata[what])} {what}, the bundle was trained with {learned}; "
                "retrain on these tables"
            )
    num_features, learned = num_cut_features(len(tables.activity_names)), len(bundle.scaler["mean"])
    if num_features != learned:
        raise MisfitError(
            f"the tables tell {num_features} numbers of a user at a cut, the bundle was trained with"
            f" {learned}: a follow graph has come or gone; retrain on these tables"
        )
    check_meaning(bundle, tables)


def check_unseen(bundle: Bundle | Start, tables: FeatureTables, split: str) -> None:
    """Raise InputError where the bundle has learned what came after the cut of a split: its figures there
    would be those of a memory."""
    if tables.is_time_split:
        learned, cut = bundle.trained_on["learned_until"], tables.cut(split)
        is_past, until = learned > cut, f"{_date(learned)}, past the {split} cut of {_date(cut)}"
    else:  # the cuts have no time, but the test events come after the validation ones
        is_past = split == Split.VALIDATION and bundle.trained_on["fit_until"] == Split.TEST
        until = "the test events, past the validation ones"
    if is_past:
        raise InputError(
            f"the model has learned until {until}; take one that learned less, or a later cut "
            "(evaluate: split=test, recommend: at=now, train: fit_until=test, promote: newer tables)"
        )


def _date(timestamp: int) -> str:
    return datetime.datetime.fromtimestamp(timestamp, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def check_dataset(bundle: Bundle | Start, tables: FeatureTables) -> None:
    trained = bundle.trained_on["dataset"]
    if trained != tables.metadata["dataset"]:
        raise InputError(
            f"the model was trained on {trained}, the tables are of {tables.metadata['dataset']}; "
            "name one of this data set"
        )


def catalogue_for(bundle: Bundle, tables: FeatureTables, split: str) -> Catalogue:
    """Content of the items at the cut, `in_training_V` where this bundle has learned the item's id.

    An item that came after the bundle's own training cut has an untrained row in its id table: it is scored
    by content alone.
    """
    catalogue = catalogue_at(tables, split)
    item_id_V = tables.items(split).item_id
    learned_V = np.arange(len(item_id_V)) < len(bundle.item_ids)
    if tables.is_time_split:  # frozen indices follow first sight, so an id is known if it was seen by the cut
        learned_V &= tables.items(split).first_seen <= bundle.trained_on["cut"]
    return catalogue._replace(in_training_V=catalogue.in_training_V & torch.from_numpy(learned_V))
