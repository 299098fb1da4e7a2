"""Words of searches: lists of lists in the histories table -> flat files, and the pairs of a batch.

Legend: E events, B rows, L events of a row, K words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from recsys.batch import QueryWords
from recsys.data.mapped import mapped_array
from recsys.schema import Column

WORD_START, WORD = WORD_FILES = ("word_start", "word")


def write_words(
    batches: Callable[[], Iterable[tuple[np.ndarray, pa.RecordBatch]]], out: Path, *, num_events: int
) -> None:
    """batches: at each call the event numbers of a part of the table, with that part; all of it in turn."""
    start = mapped_array(out / f"{WORD_START}.npy", np.int64, (num_events + 1,))
    for place, batch in batches():
        start[place + 1] = np.diff(batch[Column.QUERY].flatten().offsets.to_numpy())
    np.cumsum(start, out=start)
    word = mapped_array(out / f"{WORD}.npy", np.int32, (max(int(start[-1]), 1),))
    for place, batch in batches():
        lists = batch[Column.QUERY].flatten()
        word[_spread(start[place], np.diff(lists.offsets.to_numpy()))] = lists.flatten().to_numpy()


def words_at(event_BL: np.ndarray, real_BL: np.ndarray, *, start: np.ndarray, word: np.ndarray) -> QueryWords:
    """The words of these events, where they are real."""
    place = np.flatnonzero(real_BL)
    own_start, found = words_of_events(event_BL.ravel()[place], start=start, word=word)
    places = np.repeat(place, np.diff(own_start))
    return QueryWords(torch.from_numpy(places), torch.from_numpy(found.astype(np.int64)))


def words_of_events(
    event_E: np.ndarray, *, start: np.ndarray, word: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`start` (E + 1,) and `word` of these events alone, in their order."""
    first = np.asarray(start[event_E])
    counts = np.asarray(start[event_E + 1]) - first
    return np.r_[0, np.cumsum(counts)], np.asarray(word[_spread(first, counts)])


def _spread(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """first[k], first[k] + 1, ... : counts[k] numbers of each k."""
    return np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
