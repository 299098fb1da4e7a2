"""Random draws that belong to a thing, not to the batch it happens to be in.

However a global batch is dealt to ranks and micro batches, every query, event and target draws the same
number in the same epoch.
"""

from __future__ import annotations

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def draw(ids: np.ndarray, *, seed: int, epoch: int, stream: int) -> np.ndarray:
    """float64 in [0, 1), one of each id; streams are independent.

    The finaliser of SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
    """
    key = np.random.SeedSequence([seed, epoch, stream]).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        z = (np.asarray(ids).astype(np.uint64) + np.uint64(1)) * _GOLDEN + key
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / float(1 << 53)
