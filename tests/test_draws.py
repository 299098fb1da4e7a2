"""Draws are uniform, repeat themselves, and differ between epochs, seeds and streams."""

from __future__ import annotations

import numpy as np

from recsys.draws import draw

IDS = np.arange(20_000)


def test_uniform_and_independent_of_neighbours() -> None:
    luck = draw(IDS, seed=0, epoch=0, stream=0)
    assert np.abs(np.histogram(luck, bins=10, range=(0, 1))[0] - 2000).max() < 200
    assert abs(np.corrcoef(luck[:-1], luck[1:])[0, 1]) < 0.03


def test_the_company_does_not_matter() -> None:
    some = draw(IDS[500:510], seed=1, epoch=2, stream=0)
    np.testing.assert_array_equal(some, draw(IDS, seed=1, epoch=2, stream=0)[500:510])


def test_seed_epoch_and_stream_each_change_the_draw() -> None:
    base = draw(IDS, seed=0, epoch=0, stream=0)
    for change in ({"seed": 1}, {"epoch": 1}, {"stream": 1}):
        other = draw(IDS, **({"seed": 0, "epoch": 0, "stream": 0} | change))
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.03
