"""Typed batches: shape, dtype and unit of every field.

Legend: B rows (a user's window of events), L events, F profile fields, Q item queries, P query-target pairs,
C cut queries of a row, R cut features, H horizons, V items, N numeric features, T words of a text or times of
popularity, W columns of popularity.
A *prefix length* t means: the first t events of the row are known, nothing after them.
Items are named by their row of the catalogue at hand: the item_index with the whole catalogue, the place
among the candidates where a step looks at some items only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def _moved(values: Tensor, device: torch.device) -> Tensor:
    """To a GPU without waiting, where they lie in pinned memory."""
    return values.to(device, non_blocking=device.type == "cuda")


def most_distinct(values_BL: Tensor) -> int:
    """Distinct values in one row at most. On a GPU this would wait for all that is under way."""
    if not len(values_BL):
        return 1
    return int((values_BL.sort(dim=1).values.diff(dim=1) != 0).sum(1).max()) + 1


class QueryWords(NamedTuple):
    """Words of the searches of a batch, one after another: K of them."""

    place_K: Tensor  # int64, row * L + position of the event
    word_K: Tensor  # int64, as in Catalogue.tokens_VT


class Packing(NamedTuple):
    """Where the real positions of padded rows lie, T of them, row after row. A row of n events has n + 1
    positions: the first one knows none.
    """

    place_T: Tensor  # int64, row * num_positions + position
    position_T: Tensor  # int64
    start_B1: Tensor  # int32 (B + 1,), where each row begins among the T, and T
    longest: int  # num_positions: of a padded row

    @classmethod
    def of(cls, count_B: Tensor, *, num_positions: int) -> Packing:
        """Of rows with so many real positions. On a GPU this would wait for all that is under way."""
        start_B1 = torch.cat([count_B.new_zeros(1), count_B.cumsum(0)])
        row_T = torch.repeat_interleave(count_B)
        position_T = torch.arange(len(row_T), device=count_B.device) - start_B1[row_T]
        return cls(row_T * num_positions + position_T, position_T, start_B1.int(), num_positions)

    def packed(self, values_BLD: Tensor) -> Tensor:
        """(T, D)."""
        return values_BLD.flatten(0, 1).index_select(0, self.place_T)

    def padded(self, values_TD: Tensor) -> Tensor:
        """(B, L, D), 0 where nothing is real."""
        num_rows = len(self.start_B1) - 1
        flat = values_TD.new_zeros(num_rows * self.longest, values_TD.shape[-1])
        return flat.index_copy(0, self.place_T, values_TD).unflatten(0, (num_rows, self.longest))

    def to(self, device: torch.device) -> Packing:
        place_T, position_T, start_B1 = (_moved(each, device) for each in self[:3])
        return Packing(place_T, position_T, start_B1, self.longest)


class Histories(NamedTuple):
    """What a user did, oldest first, padded on the right with PAD."""

    item_BL: Tensor  # int64, row of the catalogue; PAD also where an event has no item
    event_type_BL: Tensor  # int64
    timestamp_BL: Tensor  # int64, Unix seconds, UTC (positions where the data set has no time)
    value_BL: Tensor  # float32, money, returns negative
    length_B: Tensor  # int64, real events
    profile_BF: Tensor  # int64, 0 = unknown
    dwell_BL: Tensor | None = None  # float32, seconds, 0 = unknown; None: the data set tells none
    words: QueryWords | None = None  # None: the data set has no searches with words
    packing: Packing | None = None  # for blocks that skip the padding
    most_own: int | None = None  # distinct values of item_BL in one row at most; None: not counted yet

    @property
    def mask_BL(self) -> Tensor:
        """bool, True at real events."""
        return torch.arange(self.item_BL.shape[1], device=self.item_BL.device) < self.length_B[:, None]

    def to(self, device: torch.device) -> Histories:
        words = None if self.words is None else QueryWords(*(_moved(each, device) for each in self.words))
        packing = None if self.packing is None else self.packing.to(device)
        plain = {name: _moved(each, device) for name, each in self._asdict().items() if torch.is_tensor(each)}
        return Histories(**plain, words=words, packing=packing, most_own=self.most_own)

    def counted(self) -> Histories:
        """The same, with `most_own`."""
        return self._replace(most_own=most_distinct(self.item_BL))

    def packed(self) -> Histories:
        """The same, to be computed without padding; as they are where there are no rows."""
        if not len(self.length_B):
            return self
        packing = Packing.of(self.length_B + 1, num_positions=self.item_BL.shape[1] + 1)
        return self._replace(packing=packing)


class ItemQueries(NamedTuple):
    """Positions from which the items of the coming window are predicted."""

    row_Q: Tensor  # int64, row of the batch
    length_Q: Tensor  # int64, prefix length
    weight_Q: Tensor  # float32
    period_Q: Tensor  # int64, row of Catalogue.popularity_TVW, dated at or before the query
    discovers_Q: Tensor  # bool, own items are neither candidates nor targets
    target_query_P: Tensor  # int64, the query a target belongs to
    target_item_P: Tensor  # int64, row of the catalogue

    @property
    def counts(self) -> tuple[int, int]:
        """Queries and targets."""
        return len(self.row_Q), len(self.target_item_P)


class NextItems(NamedTuple):
    """Where order decides: every position asks for the event after it. N of them."""

    position_N: Tensor  # int64, row * (L + 1) + prefix length
    target_N: Tensor  # int64, row of the catalogue

    @property
    def counts(self) -> tuple[int, int]:
        """Queries and targets."""
        return len(self.position_N), len(self.target_N)


class CutQueries(NamedTuple):
    """Dates at which value is assessed; padded, `mask_BC` is True where there is a cut."""

    mask_BC: Tensor  # bool
    length_BC: Tensor  # int64, prefix length at the cut
    features_BCR: Tensor  # float32, standardised activity up to the cut
    spend_BCH: Tensor  # float32, net money of each horizon's increment
    observed_BCH: Tensor  # bool, the horizon ended before the boundary of what may be known
    next_active_days_BC: Tensor  # float32, inf where no further event is known
    observed_days_BC: Tensor  # float32, how long the user was watched after the cut
    converted_BC: Tensor  # bool, bought within the first horizon (masked by observed_BCH[..., 0])


class Candidates(NamedTuple):
    """The items a training step looks at: those of its rows, its targets, and drawn negatives."""

    catalogue: Catalogue  # item_V ascending, the first is PAD; popularity at the times the queries name
    log_weight_V: Tensor  # float32, -log of the probability of being drawn; -inf for items not drawn
    drawn_K: Tensor  # int64, rows of the catalogue that were drawn, ascending


class TrainBatch(NamedTuple):
    """One micro batch; totals are of the global batch, so that ranks with fewer rows weigh less."""

    histories: Histories
    items: ItemQueries | NextItems
    cuts: CutQueries
    candidates: Candidates | None  # None: the whole catalogue
    total_weight: float  # sum of weight_Q, or number of positions asked, over the global batch
    total_cuts: int  # cut queries in the global batch
    position: tuple[int, int]  # (epoch, global batches done in it, this one included)

    def catalogue(self, whole: Catalogue | None) -> Catalogue:
        """What this step looks at: its candidates, where it has any."""
        catalogue = whole if self.candidates is None else self.candidates.catalogue
        assert catalogue is not None, "a batch without candidates looks at the whole catalogue"
        return catalogue


class PredictBatch(NamedTuple):
    """Users as they stand at the end of their rows, and one cut query each (C = 1)."""

    histories: Histories
    features_BR: Tensor  # float32
    user_index_B: Tensor  # int64


class Catalogue(NamedTuple):
    """Content of items at one cut; row 0 is padding."""

    item_V: Tensor  # int64, item_index
    categorical_VF: Tensor  # int64, 0 = unknown
    numeric_VN: Tensor  # float32, standardised
    tokens_VT: Tensor  # int64, padded with 0
    in_training_V: Tensor  # bool, the id was seen in training
    popularity_TVW: Tensor  # float32, data.popularity at each of T times; T = 1 when scoring
