"""A block of users -> windows of their events: the rows that training is dealt.

Legend: U users, E events, S windows of the block. Event numbers and users count through the whole table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.data.cut_tables import CutTable
from recsys.data.tables import FeatureTables


@dataclass(frozen=True)
class UserBlock:
    """Consecutive users from the zero-based `first_user` on, with all their events from `first_event` on."""

    first_user: int
    first_event: int
    start: np.ndarray  # int64 (U,), each user's first event
    end: np.ndarray  # int64 (U,), after the last event that may be learned from
    user: np.ndarray  # int64 (E,), place of each event's user in the block
    timestamp: np.ndarray  # int64 (E,)
    item_index: np.ndarray  # int32 (E,)
    is_target: np.ndarray  # bool (E,), may be a target: of a target type and not sent back by the boundary

    @property
    def is_known(self) -> np.ndarray:
        """bool (E,), whether an event may be learned from."""
        return np.arange(self.first_event, self.first_event + len(self.user)) < self.end[self.user]


def read_block(
    tables: FeatureTables, users: tuple[int, int], *, boundary: int, at_boundary: CutTable
) -> UserBlock:
    """The zero-based users low : high. at_boundary: the cut that training ends with."""
    low, high = users
    flat = tables.histories
    offsets = np.asarray(flat.offsets[low : high + 1])
    events = slice(int(offsets[0]), int(offsets[-1]))
    timestamp, item_index = np.asarray(flat.timestamp[events]), np.asarray(flat.item_index[events])
    user = np.repeat(np.arange(high - low), np.diff(offsets))
    is_target = np.isin(flat.event_type[events], tables.target_types) & (item_index > 0)
    if tables.is_time_split:
        returned = np.asarray(flat.returned_at[events])
        is_target &= ~((returned > 0) & (returned <= boundary))
        num_known = np.bincount(user[timestamp <= boundary], minlength=high - low)
    else:
        held = at_boundary.of_users(low, high)
        num_known = np.diff(offsets)  # of those of whom nothing is held out
        num_known[held.user_index - 1 - low] = held.prefix_length
    return UserBlock(
        first_user=low,
        first_event=events.start,
        start=offsets[:-1],
        end=offsets[:-1] + num_known,
        user=user,
        timestamp=timestamp,
        item_index=item_index,
        is_target=is_target,
    )


@dataclass(frozen=True)
class Windows:
    """Events begin : end of a user, all int64 (S,), sorted by end."""

    user: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    def holding(self, block: UserBlock, prefix: np.ndarray) -> np.ndarray:
        """Which window a prefix (its first unknown event) of the block's users belongs to: the oldest that
        ends with it or later; so that it knows half a window, or all there is.
        """
        at = np.searchsorted(self.end, prefix, "left")
        # a prefix of nothing may equal the end of the user before: it belongs to the later one
        later = np.searchsorted(self.end, prefix, "right")
        return np.where(np.isin(prefix, block.start), later, at)


def segments(block: UserBlock, *, max_length: int) -> Windows:
    """Each user's events in as few parts as windows hold them, each part as much longer than a window as
    its place may vary: where an epoch looks is drawn within the part.
    """
    total = block.end - block.start
    room = np.maximum(total - max_length, 0)
    num_parts = -(-total // max_length)
    user = np.repeat(np.arange(len(total)), num_parts)
    k = np.arange(len(user)) - np.repeat(np.cumsum(num_parts) - num_parts, num_parts)
    begin = block.start[user] + k * room[user] // num_parts[user]
    end = block.start[user] + (k + 1) * room[user] // num_parts[user] + np.minimum(total, max_length)[user]
    return Windows(user=block.first_user + user, begin=begin, end=end)


def cut_windows(block: UserBlock, *, max_length: int) -> Windows:
    """The newest max_length events of each user, then back by half windows."""
    half = max_length // 2
    total = block.end - block.start
    num_windows = np.where(total > 0, 1 + np.ceil(np.maximum(total - max_length, 0) / half).astype(int), 0)
    user = np.repeat(np.arange(len(total)), num_windows)
    back = np.arange(len(user)) - np.repeat(np.cumsum(num_windows) - num_windows, num_windows)
    end = block.end[user] - back * half
    begin = np.maximum(end - max_length, block.start[user])
    order = np.argsort(end, kind="stable")
    return Windows(user=block.first_user + user[order], begin=begin[order], end=end[order])
