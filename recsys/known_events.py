"""Feature tables -> the events of users up to a cut, as baselines and buy-till-you-die models read them."""

from __future__ import annotations

import numpy as np

from recsys.baselines.interactions import Interactions
from recsys.data.cut_tables import CutTable
from recsys.data.tables import FeatureTables
from recsys.schema import EventType


def interactions_until(tables: FeatureTables, table: CutTable) -> Interactions:
    """Every event of the table's users up to the cut; row u is the table's row u."""
    flat = tables.histories
    first = np.asarray(flat.offsets)[table.user_index - 1]
    row = np.repeat(np.arange(len(first)), table.prefix_length)
    inside = np.arange(len(row)) - np.repeat(
        np.cumsum(table.prefix_length) - table.prefix_length, table.prefix_length
    )
    at = first[row] + inside
    types = tables.metadata["event_types"]
    event_type = np.asarray(flat.event_type)[at]
    item_index = np.asarray(flat.item_index)[at]
    purchase = types.get(EventType.PURCHASE, -1)
    return Interactions.from_events(
        row=row,
        item_index=item_index,
        timestamp=np.asarray(flat.timestamp)[at],
        value=np.asarray(flat.value)[at],
        is_target=np.isin(event_type, tables.target_types) & (item_index > 0),
        is_purchase=event_type == purchase,
        num_users=len(first),
        num_items=tables.num_items,
        cut=table.cut,
        has_time=tables.has_time,
    )
