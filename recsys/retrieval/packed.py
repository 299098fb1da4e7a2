"""A score and its item in one integer: sorting integers puts equal scores in the order of their items."""

from __future__ import annotations

import numpy as np

_MAGNITUDE = 0x7FFFFFFF  # all bits of a float32 but its sign
LAST_ITEM = _MAGNITUDE  # that can be packed


def packed(score: np.ndarray, item: np.ndarray) -> np.ndarray:
    """int64 that sort by score, then by falling item: 32 bits and 31."""
    bits = (score + np.float32(0)).view(np.int32)  # + 0: -0 and 0 are one score
    return (bits ^ (bits >> 31 & _MAGNITUDE)).astype(np.int64) << 32 | (LAST_ITEM - item)


def unpacked(packed_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(float32 scores, int64 items)."""
    bits = (packed_R >> 32).astype(np.int32)
    return (bits ^ (bits >> 31 & _MAGNITUDE)).view(np.float32), LAST_ITEM - (packed_R & 0xFFFFFFFF)


NOTHING = packed(np.array([-np.inf], np.float32), np.zeros(1, np.int64))[0]
