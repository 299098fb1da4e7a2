"""Feature tables of the market as it goes on: what Spark would publish of its log so far, made in process.

Published tables are the start; the days since are added to them, so that a bundle answers from what users did
last week without a Spark job a week. A test compares the two. Knows conf/dataset/market.yaml.

Legend: that of recsys.simulator, and R rows (events), F fields.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

import numpy as np

from recsys.data.cut_tables import CutTable
from recsys.data.flat import FlatHistories
from recsys.data.tables import FeatureTables, Items
from recsys.market_content import item_contents, user_profiles
from recsys.pseudonym import Key, pseudonym
from recsys.schema import PAD, SECONDS_PER_DAY, EventType, InputError, Split, Table, UserNumeric
from recsys.simulator.logs import event_rows, item_ids, user_ids
from recsys.simulator.market import Day, Market

_POPULARITY_DAYS = 30
_BOUNCE_S, _READ_S = 10.0, 30.0  # views below and from here on have names of their own


@dataclass(frozen=True)
class _Events:
    """user_R and item_R: of the market; kind_R: index of the event type; value_R: money, 0 for none."""

    user_R: np.ndarray
    item_R: np.ndarray
    kind_R: np.ndarray
    timestamp_R: np.ndarray
    value_R: np.ndarray

    def joined(self, others: list[_Events]) -> _Events:
        parts = [self, *others]
        return _Events(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(_Events)))


class MarketTables(FeatureTables):
    """The tables at one moment; every split is `now`. What a value head reads of a user is unknown."""

    def __init__(
        self, base: FeatureTables, *, histories: FlatHistories, items: Items, table: CutTable
    ) -> None:
        split = base.metadata["split"]
        split = split | {"cuts": split["cuts"] | {Split.NOW: table.cut}}
        sizes = {"num_items": len(items.item_id) - 1, "num_users": histories.num_users}
        self.dir, self.cache_dir = base.dir, base.cache_dir
        self.metadata = base.metadata | sizes | {"split": split}
        self.histories = histories
        self._items, self._table = items, table

    def items(self, split: str) -> Items:
        """As known now."""
        return self._items

    def at_cut(self, *, split: str, cut: int | None = None) -> CutTable:
        """All users with an event."""
        assert (split, cut) == (Split.NOW, None)
        return self._table


class GrowingLog:
    """The events behind published tables and those of the days added since.

    `base`: of a log of this market whose last day lies before the next one. InputError where it is of another
    market.
    """

    def __init__(self, base: FeatureTables, market: Market, key: Key) -> None:
        self._base = base
        self._types: dict[str, int] = base.metadata["event_types"]
        self._vocabularies = json.loads((base.dir / Table.VOCABULARIES).read_text(encoding="utf-8"))
        self._item_id_V = np.array(["", *item_ids(np.arange(1, market.items.num_items + 1))], object)
        self._user_key_U = np.array([pseudonym(name, key) for name in user_ids(np.arange(len(market.users)))])
        number_of_item = {name: number for number, name in enumerate(self._item_id_V)}
        number_of_user = {name: number for number, name in enumerate(self._user_key_U.tolist())}
        histories, item_id = base.histories, base.items(Split.NOW).item_id
        try:
            self._known_items = np.array([number_of_item[name] for name in item_id[1:]])
            self._known_users = np.array([number_of_user[name] for name in histories.user_key.tolist()])
        except KeyError as error:
            raise InputError(
                f"the tables {base.dir} know {error}, whom this market does not have; name those of its log, "
                "under the key they were made with"
            ) from None
        self._published = _Events(
            user_R=np.repeat(self._known_users, np.diff(histories.offsets)),
            item_R=np.r_[PAD, self._known_items][histories.item_index],
            kind_R=np.asarray(histories.event_type),
            timestamp_R=np.asarray(histories.timestamp),
            value_R=np.asarray(histories.value),
        )
        self._since: list[_Events] = []
        self._content = item_contents(market.items, self._vocabularies)
        self._profile_UF = user_profiles(market.users, self._vocabularies)

    def add(self, day: Day) -> None:
        """The events of a day, to be called before the next one begins."""
        rows = event_rows(day)
        self._since.append(
            _Events(
                user_R=rows["user_R"],
                item_R=rows["item_R"],
                kind_R=self._kinds(rows["kind_R"], rows["dwell_s_R"]),
                timestamp_R=rows["timestamp_R"],
                value_R=np.nan_to_num(rows["value_R"]),
            )
        )

    def tables(self) -> tuple[MarketTables, np.ndarray, np.ndarray]:
        """Tables of all events so far; the market's item behind each item_index (0 pads); the row of each
        user in the cut table, -1 for who has no event.
        """
        events = self._published.joined(self._since)
        cut = int(events.timestamp_R.max())
        item_of_index, first_seen = _in_order(
            events.item_R, events.timestamp_R, known=self._known_items, names=self._item_id_V
        )
        user_of_index, _ = _in_order(
            events.user_R, events.timestamp_R, known=self._known_users, names=self._user_key_U
        )
        index_of_item = _inverse(item_of_index, size=len(self._item_id_V), first=1, missing=PAD)
        row_of_user = _inverse(user_of_index, size=len(self._user_key_U), first=0, missing=-1)
        histories = self._histories(events, index_of_item, row_of_user, user_of_index)
        count_U = np.diff(histories.offsets)
        table = _cut_table(cut, count_U, self._profile_UF[user_of_index], len(self._base.horizons_days))
        padded = np.r_[PAD, item_of_index]
        items = self._items(events, padded, np.r_[0, first_seen], cut)
        return (
            MarketTables(self._base, histories=histories, items=items, table=table),
            padded,
            row_of_user,
        )

    def _kinds(self, kind_R: np.ndarray, dwell_s_R: np.ndarray) -> np.ndarray:
        """Views of no time and of some time by their own names, where the tables have them."""
        named_R = kind_R.astype("<U8")
        is_view_R = kind_R == EventType.VIEW
        with np.errstate(invalid="ignore"):
            for name, met_R in (("bounce", dwell_s_R < _BOUNCE_S), ("read", dwell_s_R >= _READ_S)):
                if name in self._types:
                    named_R[is_view_R & met_R] = name
        kinds, place_R = np.unique(named_R, return_inverse=True)
        return np.array([self._types[name] for name in kinds.tolist()], np.int32)[place_R]

    def _histories(
        self, events: _Events, index_of_item: np.ndarray, row_of_user: np.ndarray, user_of_index: np.ndarray
    ) -> FlatHistories:
        """In the order of the tables: by time, ties by event type and item as they are called."""
        names = sorted(self._types, key=lambda name: self._types[name])
        place_of_type = np.r_[0, np.argsort(np.argsort(names))]
        place_of_item = np.argsort(np.argsort(self._item_id_V.astype(str)))
        row_R = row_of_user[events.user_R]
        order_R = np.lexsort(
            (
                events.value_R,
                place_of_item[events.item_R],
                place_of_type[events.kind_R],
                events.timestamp_R,
                row_R,
            )
        )
        counts = np.bincount(row_R, minlength=len(user_of_index))
        return FlatHistories(
            offsets=np.r_[0, np.cumsum(counts)],
            item_index=index_of_item[events.item_R[order_R]].astype(np.int32),
            event_type=events.kind_R[order_R].astype(np.int32),
            timestamp=events.timestamp_R[order_R],
            value=events.value_R[order_R],
            returned_at=np.zeros(len(order_R), np.int64),
            user_key=self._user_key_U[user_of_index],
        )

    def _items(self, events: _Events, item_V: np.ndarray, first_seen_V: np.ndarray, cut: int) -> Items:
        """Content by item_index. A price is known from the first purchase on."""
        size = len(self._item_id_V)
        bought_R = events.value_R > 0
        is_priced = np.bincount(events.item_R[bought_R], minlength=size)[item_V] > 0
        price_V = np.where(is_priced, self._content.price_V[item_V], np.nan)
        band_V = 1 + (price_V[:, None] > np.array(self._vocabularies["price_band_thresholds"])).sum(axis=1)
        scaler = self._base.metadata["scalers"]["log_price"]
        scaled_V = np.nan_to_num((np.log(price_V) - scaler["mean"]) / scaler["std"])
        is_target_R = np.isin(events.kind_R, self._base.target_types)
        is_recent_R = is_target_R & (events.timestamp_R > cut - _POPULARITY_DAYS * SECONDS_PER_DAY)
        content = self._content
        return Items(
            categorical=np.column_stack([content.field_VF[item_V], np.where(is_priced, band_V, PAD)]),
            numeric=scaled_V[:, None].astype(np.float32),
            tokens=content.token_VT[item_V],
            in_training=item_V != PAD,
            popularity=np.bincount(events.item_R[is_recent_R], minlength=size)[item_V],
            price=price_V,
            first_seen=first_seen_V,
            item_id=self._item_id_V[item_V],
            text=content.text_V[item_V],
        )


def _in_order(
    number_R: np.ndarray, timestamp_R: np.ndarray, *, known: np.ndarray, names: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What is known in its place, then what is new by first sight and name; when each was first seen."""
    seen_N = np.full(len(names), np.iinfo(np.int64).max)
    np.minimum.at(seen_N, number_R, timestamp_R)
    new = np.setdiff1d(np.unique(number_R), known)
    new = new[np.lexsort((names[new].astype(str), seen_N[new]))]
    ordered = np.r_[known, new].astype(np.int64)
    return ordered, seen_N[ordered]


def _inverse(numbers: np.ndarray, *, size: int, first: int, missing: int) -> np.ndarray:
    place_N = np.full(size, missing, np.int64)
    place_N[numbers] = np.arange(first, first + len(numbers))
    return place_N


def _cut_table(cut: int, count_U: np.ndarray, profile_UF: np.ndarray, num_horizons: int) -> CutTable:
    num_users = len(count_U)
    return CutTable(
        cut=cut,
        user_index=np.arange(1, num_users + 1),
        prefix_length=count_U,
        activity=np.full((num_users, len(UserNumeric.ALL)), np.nan),
        profile=profile_UF,
        spend=np.full((num_users, num_horizons), np.nan),
        num_purchases=np.zeros((num_users, num_horizons), np.int64),
        num_active_days=np.zeros((num_users, num_horizons), np.int64),
        next_active_days=np.full(num_users, np.inf),
        observed_days=np.zeros(num_users),
    )
