"""Recommendations as the tables that `recommend` writes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from recsys.data.tables import Items
from recsys.recommendation import Recommendations
from recsys.schema import Column, Recommendation


def top_k_table(found: Recommendations) -> pa.Table:
    """user_key, rank, item_index, item_id, score: a row per user and rank that holds an item."""
    row_R, rank_R = np.nonzero(found.item_UK)
    item_R = found.item_UK[row_R, rank_R]
    return pa.table(
        {
            Column.USER_KEY: pa.array(found.user_key_U[row_R].tolist(), pa.string()),
            Recommendation.RANK: (rank_R + 1).astype(np.int32),
            Column.ITEM_INDEX: item_R,
            Column.ITEM_ID: pa.array(found.items.item_id[item_R].tolist(), pa.string()),
            Recommendation.SCORE: found.score_UK[row_R, rank_R],
        }
    )


def user_vector_table(found: Recommendations) -> pa.Table:
    """user_key, vector."""
    return pa.table(
        {
            Column.USER_KEY: pa.array(found.user_key_U.tolist(), pa.string()),
            Recommendation.VECTOR: _lists(found.user_vector_US),
        }
    )


def item_vector_table(items: Items, vector_VS: np.ndarray) -> pa.Table:
    """item_index, item_id, vector of every item in the tables, also of those first seen after the cut."""
    index_R = np.flatnonzero(items.item_id != "")
    return pa.table(
        {
            Column.ITEM_INDEX: index_R.astype(np.int32),
            Column.ITEM_ID: pa.array(items.item_id[index_R].tolist(), pa.string()),
            Recommendation.VECTOR: _lists(vector_VS[index_R]),
        }
    )


def value_table(found: Recommendations) -> pa.Table | None:
    """user_key and what each user is worth; None for a model without value heads."""
    if found.heads is None:
        return None
    horizons, bins = found.heads.horizons_days, found.heads.bin_ends_days
    columns: dict[str, pa.Array] = {Column.USER_KEY: pa.array(found.user_key_U.tolist(), pa.string())}
    if found.spend_UH is not None:
        for h, days in enumerate(horizons):
            columns[Recommendation.SPEND.format(days=days)] = pa.array(found.spend_UH[:, h])
            if found.interval_UHI is not None:
                for i, name in enumerate((Recommendation.SPEND_LOWER, Recommendation.SPEND_UPPER)):
                    columns[name.format(days=days)] = pa.array(found.interval_UHI[:, h, i].astype(np.float64))
    if found.return_UJ is not None:
        for days in horizons:
            if days in bins:
                chance_U = found.return_UJ[:, bins.index(days)]
                columns[Recommendation.RETURN.format(days=days)] = pa.array(chance_U)
    if found.conversion_U is not None:
        columns[Recommendation.CONVERSION.format(days=horizons[0])] = pa.array(found.conversion_U)
    return pa.table(columns)


def _lists(vector_RS: np.ndarray) -> pa.Array:
    offsets = np.arange(len(vector_RS) + 1, dtype=np.int32) * vector_RS.shape[1]
    return pa.ListArray.from_arrays(offsets, pa.array(vector_RS.astype(np.float32).ravel()))
