"""A list of integers per row, of different lengths, in two flat arrays (CSR).

Legend: U rows (users), E entries over all rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ragged:
    """Row `u` holds `values[offsets[u] : offsets[u + 1]]`.

    Args:
        offsets: integer, shape (U + 1,), starts at 0, never falls, ends at E.
        values: integer, shape (E,).
    """

    offsets: np.ndarray
    values: np.ndarray

    def __post_init__(self) -> None:
        assert self.offsets.ndim == 1, "offsets must have shape (U + 1,)"
        assert self.values.ndim == 1, "values must have shape (E,)"
        assert self.offsets[0] == 0, "offsets must start at 0"
        assert self.offsets[-1] == len(self.values), "offsets must span values"
        assert (np.diff(self.offsets) >= 0).all(), "offsets must not fall"

    @classmethod
    def from_lists(cls, rows: Sequence[Iterable[int]]) -> Ragged:
        """One row for each inner list."""
        arrays = [np.asarray(list(row), dtype=np.int64) for row in rows]
        offsets = np.concatenate(([0], np.cumsum([len(a) for a in arrays]))).astype(np.int64)
        return cls(offsets=offsets, values=np.concatenate([np.zeros(0, np.int64), *arrays]))

    @classmethod
    def from_pairs(cls, *, row_E: np.ndarray, value_E: np.ndarray, num_rows: int) -> Ragged:
        """From (row, value) pairs in any order; within a row the given order is kept."""
        order_E = np.argsort(row_E, kind="stable")
        counts_U = np.bincount(row_E, minlength=num_rows)
        assert len(counts_U) == num_rows, "a row lies beyond num_rows"
        return cls(offsets=np.concatenate(([0], np.cumsum(counts_U))), values=np.asarray(value_E)[order_E])

    @property
    def num_rows(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Entries in each row, shape (U,)."""
        return np.diff(self.offsets)

    @property
    def row_of_entry(self) -> np.ndarray:
        """The row each entry belongs to, shape (E,)."""
        return np.repeat(np.arange(self.num_rows), self.lengths)

    def row(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def select(self, rows_B: np.ndarray) -> Ragged:
        """The given rows (bool mask or indices), in that order."""
        picked_B = np.arange(self.num_rows)[rows_B]
        lengths_B = self.lengths[picked_B]
        offsets = np.concatenate(([0], np.cumsum(lengths_B)))
        entries = np.arange(offsets[-1]) + np.repeat(self.offsets[picked_B] - offsets[:-1], lengths_B)
        return Ragged(offsets=offsets, values=self.values[entries])
