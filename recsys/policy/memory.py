"""What users were shown of every category lately: counts that fade, for a penalty across slates.

Legend: R impressions, U users, B users of a chunk, C categories (column 0: none), K slots, V items.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from recsys.schema import SECONDS_PER_DAY, Impression


class CategoryMemory:
    """Counts of a slot's category, halved every `half_life_days`, as a policy goes along; times never
    fall.
    """

    def __init__(self, *, num_users: int, num_categories: int, half_life_days: float) -> None:
        self._count_UC = np.zeros((num_users, num_categories + 1), np.float32)
        self._at_U = np.zeros(num_users, np.int64)
        self._half_life_s = half_life_days * SECONDS_PER_DAY

    def carried(self, user_B: np.ndarray, *, at: int) -> np.ndarray:
        """float32 (B, C + 1): what is left of the counts of users (rows from 0) at a time (Unix seconds)."""
        left_B = 0.5 ** ((at - self._at_U[user_B]) / self._half_life_s)
        return self._count_UC[user_B] * left_B[:, None].astype(np.float32)

    def add(self, user_B: np.ndarray, category_BK: np.ndarray, *, at: int) -> None:
        """Slates that were shown at a time, as categories; 0 counts for nothing."""
        count_BC = self.carried(user_B, at=at)
        np.add.at(count_BC, (np.arange(len(user_B))[:, None], category_BK), 1)
        count_BC[:, 0] = 0
        self._count_UC[user_B], self._at_U[user_B] = count_BC, at


def shown_before(
    impressions: pa.Table,
    *,
    user_key_U: np.ndarray,
    item_id_V: np.ndarray,
    category_V: np.ndarray,
    at: int,
    half_life_days: float,
) -> sparse.csr_array:
    """float32 (U + 1, C + 1): the same counts at a time, from a log. `user_key_U`: by user_index - 1."""
    table = impressions.filter(pc.less(impressions[Impression.TIMESTAMP], at))
    user_R = place_of(table[Impression.USER_KEY], user_key_U) + 1
    item_R = place_of(table[Impression.ITEM_ID], item_id_V)
    known_R = (user_R > 0) & (item_R > 0)
    category_R = category_V[np.maximum(item_R, 0)]
    age_R = at - table[Impression.TIMESTAMP].to_numpy()
    count_R = 0.5 ** (age_R / (half_life_days * SECONDS_PER_DAY)) * (known_R & (category_R > 0))
    shape = (len(user_key_U) + 1, int(category_V.max(initial=0)) + 1)
    return sparse.coo_array((count_R.astype(np.float32), (user_R, category_R)), shape=shape).tocsr()


def place_of(values: pa.ChunkedArray, known: np.ndarray) -> np.ndarray:
    """int64: place of each text among the known ones, -1 where it is not."""
    found = pc.index_in(values, value_set=pa.array(known.tolist(), pa.string()))
    return pc.fill_null(found, -1).to_numpy().astype(np.int64)
