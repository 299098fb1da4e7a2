"""Items and users of the log of `make_events`: what each is called, costs and belongs to.

Legend: V items, U users.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NUM_CATEGORIES, NUM_BRANDS, NUM_WORDS = 40, 200, 600
SYLLABLES = ("ba", "co", "di", "fe", "gu", "ka", "lo", "mi", "ne", "pu", "ra", "so", "ti", "ve")
COUNTRIES = ("DE", "FR", "GB", "IT", "NL", "PL")
USERS_PER_GROUP = 1_000_000
ITEM_STREAM, USER_STREAM = 1, 2  # beside the blocks of the log, which have two numbers


class Catalogue:
    """`price_V` in money; `query_V`: the words that an item is searched by."""

    def __init__(self, num_items: int, seed: int) -> None:
        rng = np.random.default_rng([seed, ITEM_STREAM, 0])
        size = len(SYLLABLES)
        words = [
            SYLLABLES[w % size] + SYLLABLES[w // size % size] + SYLLABLES[7 * w % size]
            for w in range(NUM_WORDS)
        ]
        category_V = rng.integers(0, NUM_CATEGORIES, num_items)
        word_VW = np.stack([category_V, *rng.integers(NUM_CATEGORIES, NUM_WORDS, (2, num_items))], 1)
        self._title_V = [" ".join(words[w] for w in row) for row in word_VW.tolist()]
        self._category_V = [words[c] for c in category_V.tolist()]
        self._brand_V = [f"brand{b}" for b in rng.integers(0, NUM_BRANDS, num_items).tolist()]
        self.price_V = np.round(rng.lognormal(np.log(20), 0.9, num_items) + 0.5, 2)
        self.query_V = pa.array([title.rpartition(" ")[0] for title in self._title_V])

    def table(self) -> pa.Table:
        return pa.table(
            {
                "item_id": [f"i{v}" for v in range(len(self._title_V))],
                "title": self._title_V,
                "category": self._category_V,
                "brand": self._brand_V,
            }
        )


def write_users(path: Path, num_users: int, seed: int) -> None:
    """Users from 0 to `num_users`, a part at a time."""
    schema = pa.schema([("user_id", pa.string()), ("country", pa.string()), ("age", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for low in range(0, num_users + 1, USERS_PER_GROUP):
            rng = np.random.default_rng([seed, USER_STREAM, low])
            number_U = np.arange(low, min(low + USERS_PER_GROUP, num_users + 1))
            country_U = rng.choice(COUNTRIES, len(number_U)).tolist()
            age_U = [f"{10 * decade}s" for decade in rng.integers(1, 8, len(number_U)).tolist()]
            columns = {"user_id": [f"u{u}" for u in number_U], "country": country_U, "age": age_U}
            writer.write_table(pa.table(columns, schema=schema))
