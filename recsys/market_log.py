"""What a platform would keep of the market, as Parquet: events, items, users, slates with propensities.

Legend: that of recsys.simulator, and R rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.market_policies import Drawn
from recsys.policy.impressions import IMPRESSION_SCHEMA, impression_table, slate_id
from recsys.policy.outcomes import OUTCOME_FILE_SCHEMA
from recsys.policy.slates import Slates
from recsys.pseudonym import Key, pseudonym
from recsys.schema import EventType, Outcome
from recsys.simulator.logs import event_rows, item_columns, item_ids, slate_timestamp, user_columns, user_ids
from recsys.simulator.market import Day, Market

EVENTS, ITEMS, USERS, IMPRESSIONS, STATE = "events", "items", "users", "impressions", "state.npz"

# An outcomes file for `recsys feedback` as it is, with what only a raw log has beside it.
EVENT_SCHEMA = pa.schema(
    [
        *OUTCOME_FILE_SCHEMA,
        ("order_id", pa.string()),
        ("query", pa.string()),
        ("dwell_s", pa.float64()),
    ]
)


class MarketLog:
    """A folder with the days added to it; leaving the context ends the files.

    Impressions number items as the market does; elsewhere they are known by `item_id`.
    """

    def __init__(self, folder: Path, market: Market, policy: Drawn, key: Key) -> None:
        folder.mkdir(parents=True)
        self._policy = policy
        self._user_id_U = user_ids(np.arange(len(market.users)))
        self._item_id_V = ["", *item_ids(np.arange(1, market.items.num_items + 1))]
        self._user_key_U = [pseudonym(user_id, key) for user_id in self._user_id_U]
        pq.write_table(pa.table(user_columns(market.users)), folder / f"{USERS}.parquet")
        pq.write_table(pa.table(item_columns(market.items)), folder / f"{ITEMS}.parquet")
        self._open = contextlib.ExitStack()
        self._events = self._open.enter_context(pq.ParquetWriter(folder / f"{EVENTS}.parquet", EVENT_SCHEMA))
        self._impressions = self._open.enter_context(
            pq.ParquetWriter(folder / f"{IMPRESSIONS}.parquet", IMPRESSION_SCHEMA)
        )

    def __enter__(self) -> MarketLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def add(self, day: Day) -> None:
        """The events and impressions of a day of the logged policy."""
        slates = day.shown
        assert isinstance(slates, Slates)
        timestamp = slate_timestamp(day.scene.day)
        user_key_B = [self._user_key_U[user] for user in day.scene.user_B.tolist()]
        shown = impression_table(
            slates=slates,
            config=self._policy.config,
            policy_version=self._policy.version,
            user_key_B=user_key_B,
            item_id_V=self._item_id_V,
            timestamp=timestamp,
        )
        seed, version = self._policy.config.seed, self._policy.version
        slate_id_B = [slate_id(version, user_key, timestamp, seed=seed) for user_key in user_key_B]
        self._impressions.write_table(shown)
        self._events.write_table(self._event_table(day, slate_id_B))

    def _event_table(self, day: Day, slate_id_B: Sequence[str]) -> pa.Table:
        rows = event_rows(day)
        user_id_R = [self._user_id_U[user] for user in rows["user_R"].tolist()]
        item_id_R = [self._item_id_V[item] for item in rows["item_R"].tolist()]
        kind_R, timestamp_R = rows["kind_R"].tolist(), rows["timestamp_R"].tolist()
        topic_R = day.scene.items.topic_V[rows["item_R"]].tolist()
        columns = {
            Outcome.OUTCOME_ID: [
                "-".join((user, str(timestamp), kind, item))
                for user, timestamp, kind, item in zip(user_id_R, timestamp_R, kind_R, item_id_R, strict=True)
            ],
            Outcome.USER_ID: user_id_R,
            Outcome.ITEM_ID: item_id_R,
            Outcome.EVENT_TYPE: kind_R,
            Outcome.TIMESTAMP: timestamp_R,
            Outcome.VALUE: _nan_is_null(rows["value_R"]),
            Outcome.SLATE_ID: [slate_id_B[row] if row >= 0 else None for row in rows["row_R"].tolist()],
            "order_id": [f"{user}-{day.scene.day}" for user in user_id_R],
            "query": [
                f"topic{topic}" if kind == EventType.SEARCH else None
                for topic, kind in zip(topic_R, kind_R, strict=True)
            ],
            "dwell_s": _nan_is_null(rows["dwell_s_R"]),
        }
        return pa.table(columns, schema=EVENT_SCHEMA)


def _nan_is_null(values_R: np.ndarray) -> pa.Array:
    return pa.array(values_R, pa.float64(), from_pandas=True)
