"""Where order decides: segments of each user, and the window that an epoch draws within each."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.data.sample_config import SampleConfig
from recsys.data.samples import TrainingSamples
from recsys.data.windows import UserBlock, segments
from tests.data.shop import Event, Shop

LENGTHS = (0, 3, 4, 5, 23)
MAX_LENGTH = 4


def block() -> UserBlock:
    end = np.cumsum(LENGTHS)
    none = np.zeros(end[-1], np.int64)
    return UserBlock(
        first_user=7,
        first_event=0,
        start=end - LENGTHS,
        end=end,
        user=np.repeat(np.arange(len(LENGTHS)), LENGTHS),
        timestamp=none,
        item_index=none + 1,
        is_target=none == 0,
    )


def test_segments_are_as_many_as_windows_hold_and_cover_every_event() -> None:
    found = segments(block(), max_length=MAX_LENGTH)
    assert found.user.tolist() == [8, 9, 10, 10, *[11] * 6]
    covered = np.zeros(sum(LENGTHS), bool)
    for begin, end in zip(found.begin, found.end, strict=True):
        covered[begin:end] = True
    assert covered.all()
    room = found.end - found.begin - np.minimum(np.array(LENGTHS)[found.user - 7], MAX_LENGTH)
    assert room[:2].tolist() == [0, 0]  # all of a short history is looked at every time
    assert room[-6:].sum() == 23 - MAX_LENGTH


def events_of(num_events: int) -> list[Event]:
    return [Event(1, k, item=k % 20 + 1) for k in range(num_events + 2)]  # two are held out


@pytest.fixture(scope="module")
def samples() -> TrainingSamples:
    return TrainingSamples(
        tables=Shop(events_of(23), 1, is_time_split=False),  # type: ignore[arg-type]
        fit_until="validation",
        config=SampleConfig(max_length=MAX_LENGTH),
    )


def test_a_window_lies_within_its_segment_and_is_drawn_anew_each_epoch(samples: TrainingSamples) -> None:
    rows, seen = np.arange(len(samples)), set()
    for epoch in range(50):
        begin, end = samples.windows(rows, seed=0, epoch=epoch)
        assert (end - begin == MAX_LENGTH).all()
        assert (begin >= samples.begin).all()
        assert (end <= samples.end).all()
        seen |= {event for b, e in zip(begin, end, strict=True) for event in range(b, e)}
        again, _ = samples.windows(rows[::-1], seed=0, epoch=epoch)
        assert again[::-1].tolist() == begin.tolist()  # whatever it is dealt with
    assert seen == set(range(23))


def test_the_targets_of_a_window_are_its_weight(samples: TrainingSamples) -> None:
    assert samples.weight.tolist() == [MAX_LENGTH] * 6
    assert samples.lengths.tolist() == [MAX_LENGTH] * 6
