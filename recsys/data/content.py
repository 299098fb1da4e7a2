"""Content of a large catalogue in memory-mapped files, of which a batch takes the rows that it looks at.

Legend: V items (row 0 is padding), F fields, N numbers, T words or times, W columns of popularity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import torch

from recsys.batch import Catalogue
from recsys.data.flat import lists_in_place, parquet_batches, parquet_files
from recsys.data.mapped import mapped_array, open_mapped
from recsys.data.popularity import NUM_COLUMNS, popularity_at
from recsys.disk import built_once
from recsys.schema import Column, Table

if TYPE_CHECKING:
    from recsys.data.tables import FeatureTables

MAX_WORDS = 12  # of an item's text
_BLOCK = 200_000  # items whose popularity is computed at a time


@dataclass(frozen=True)
class ItemContent:
    """As known at one cut, popularity at each of T times. Shared by ranks and workers of a node."""

    categorical_VF: np.ndarray  # int32
    numeric_VN: np.ndarray  # float32
    tokens_VT: np.ndarray  # int32
    in_training_V: np.ndarray  # bool
    popularity_VTW: np.ndarray  # float32, item by item, so that one lies on one page

    def take(self, item_V: np.ndarray, time_T: np.ndarray) -> Catalogue:
        """The catalogue of these items, popularity at these times only."""
        popularity_VTW = self.popularity_VTW[item_V[:, None], time_T[None, :]]
        return Catalogue(
            item_V=torch.from_numpy(item_V),
            categorical_VF=torch.from_numpy(self.categorical_VF[item_V].astype(np.int64)),
            numeric_VN=torch.from_numpy(self.numeric_VN[item_V]),
            tokens_VT=torch.from_numpy(self.tokens_VT[item_V].astype(np.int64)),
            in_training_V=torch.from_numpy(self.in_training_V[item_V]),
            popularity_TVW=torch.from_numpy(popularity_VTW.swapaxes(0, 1).copy()),
        )


def open_content(tables: FeatureTables, split: str, times: np.ndarray) -> ItemContent:
    """Map the files of a table version and split, made on first use; memory stays bounded while they are."""
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        "categorical_VF": (np.int32, (len(tables.metadata["item_fields"]),)),
        "numeric_VN": (np.float32, (len(tables.metadata["item_numeric"]),)),
        "tokens_VT": (np.int32, (MAX_WORDS if tables.metadata["num_tokens"] else 0,)),
        "in_training_V": (np.bool_, ()),
        "popularity_VTW": (np.float32, (len(times), NUM_COLUMNS)),
    }

    def build(folder: Path) -> None:
        arrays = {
            name: mapped_array(folder / f"{name}.npy", dtype, (tables.num_items + 1, *shape))
            for name, (dtype, shape) in shapes.items()
        }
        _write_content(tables, split, arrays)
        for low in range(0, tables.num_items + 1, _BLOCK):
            high = min(low + _BLOCK, tables.num_items + 1)
            block_TVW = popularity_at(tables, times, low=low, high=high)
            arrays["popularity_VTW"][low:high] = block_TVW.swapaxes(0, 1)

    folder = built_once(tables.cache_dir / f"{tables.version}-content-{split}", build)
    return ItemContent(**{name: open_mapped(folder / f"{name}.npy") for name in shapes})


def _write_content(tables: FeatureTables, split: str, arrays: Mapping[str, np.ndarray]) -> None:
    columns = [Column.ITEM_INDEX, Column.VALID_FROM, Column.IN_TRAINING]
    lists = {
        "categorical_VF": Column.CATEGORICAL,
        "numeric_VN": Column.NUMERIC,
        "tokens_VT": Column.TOKENS,
    }
    for batch in parquet_batches(
        parquet_files(tables.dir / Table.ITEM_FEATURES), [*columns, *lists.values()]
    ):
        part = batch.filter(pc.equal(batch[Column.VALID_FROM], tables.cut(split)))
        rows = part[Column.ITEM_INDEX].to_numpy()
        arrays["in_training_V"][rows] = part[Column.IN_TRAINING].to_numpy(zero_copy_only=False)
        for name, column in lists.items():
            lists_in_place(part[column], rows, arrays[name])
    np.nan_to_num(arrays["numeric_VN"], copy=False)
