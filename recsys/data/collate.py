"""Sample numbers -> padded tensors. Legend as in recsys.batch."""

from __future__ import annotations

import numpy as np
import torch

from recsys.batch import Candidates, CutQueries, Histories, ItemQueries, NextItems, PredictBatch, TrainBatch
from recsys.data.content import ItemContent
from recsys.data.cut_features import CutScaler, raw_cut_features
from recsys.data.cut_tables import CutTable
from recsys.data.flat import FlatHistories
from recsys.data.negatives import Negatives
from recsys.data.query_words import words_at
from recsys.data.samples import TrainingSamples
from recsys.draws import draw
from recsys.schema import PAD

_ASKED, _ORDER, _TARGETS = 0, 1, 2  # streams of draws


class MomentOrder:
    """A random order of each moment's events, rows apart: place in a row -> event."""

    def __init__(
        self, flat: FlatHistories, *, begin: np.ndarray, end: np.ndarray, seed: int, epoch: int
    ) -> None:
        counts = end - begin
        self.begin, self.start = begin, np.cumsum(counts) - counts
        row = np.repeat(np.arange(len(begin)), counts)
        event = begin[row] + np.arange(len(row)) - self.start[row]
        luck = draw(event, seed=seed, epoch=epoch, stream=_ORDER)
        shuffled = np.lexsort((luck, np.asarray(flat.timestamp)[event], row))
        self.event_at = event[shuffled]

    def event(self, row: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Events at absolute places of batch rows."""
        if not len(self.event_at):
            return place
        return self.event_at[np.minimum(self.start[row] + place - self.begin[row], len(self.event_at) - 1)]


def pad_histories(
    flat: FlatHistories,
    *,
    begin: np.ndarray,
    end: np.ndarray,
    profile_BF: np.ndarray,
    order: MomentOrder | None = None,
) -> Histories:
    """Events begin : end of each row, padded on the right; timestamps of padding repeat the last one."""
    length = end - begin
    at = np.minimum(
        begin[:, None] + np.arange(max(int(length.max(initial=0)), 1)), np.maximum(end - 1, 0)[:, None]
    )
    at = np.minimum(at, max(len(flat.item_index) - 1, 0))
    real = np.arange(at.shape[1]) < length[:, None]
    if order is not None:
        rows = np.repeat(np.arange(len(begin)), at.shape[1])
        at = order.event(rows, np.maximum(at, begin[:, None]).ravel()).reshape(at.shape)

    def column(values: np.ndarray, dtype: type) -> torch.Tensor:
        return torch.from_numpy(np.where(real, values[at], 0).astype(dtype))

    return Histories(
        item_BL=column(flat.item_index, np.int64),
        event_type_BL=column(flat.event_type, np.int64),
        timestamp_BL=torch.from_numpy(np.where(length[:, None] > 0, flat.timestamp[at], 0).astype(np.int64)),
        value_BL=column(flat.value, np.float32),
        length_B=torch.from_numpy(length.astype(np.int64)),
        profile_BF=torch.from_numpy(profile_BF),
        dwell_BL=None if flat.dwell_s is None else column(flat.dwell_s, np.float32),
        words=None
        if flat.word_start is None or flat.word is None
        else words_at(at, real, start=flat.word_start, word=flat.word),
    )


def train_batch(
    samples: TrainingSamples,
    rows: np.ndarray,
    *,
    total_weight: float,
    total_cuts: int,
    position: tuple[int, int],
    seed: int,
    packed: bool = False,
) -> TrainBatch:
    """The micro batch of these samples; rows of -1 are empty (they keep ranks in step). packed: with the
    places of real positions. What a step on a GPU would have to wait for is counted here.
    """
    rows = rows[rows >= 0] if (rows >= 0).any() else rows[:0]
    begin, end = samples.windows(rows, seed=seed, epoch=position[0])
    order, candidates = None, None
    if samples.tables.is_time_split:
        known = samples.user_end[samples.user[rows]]
        order = MomentOrder(samples.histories, begin=begin, end=known, seed=seed, epoch=position[0])
    histories = pad_histories(
        samples.histories,
        begin=begin,
        end=end,
        profile_BF=samples.profile[samples.user[rows]],
        order=order,
    )
    items: ItemQueries | NextItems
    if samples.tables.is_time_split:
        items = _item_queries(samples, rows, order, seed=seed, epoch=position[0])
        histories = histories.counted()
    else:
        items = _next_items(samples, begin, end, num_positions=histories.item_BL.shape[1] + 1)
    if samples.negatives is not None and samples.content is not None:
        histories, items, candidates = _among_candidates(
            histories, items, samples.negatives, samples.content, seed=seed, position=position
        )
    return TrainBatch(
        histories=histories.packed() if packed else histories,
        items=items,
        cuts=_cut_queries(samples, rows),
        candidates=candidates,
        total_weight=total_weight,
        total_cuts=total_cuts,
        position=position,
    )


def _spans(start: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(batch row of each entry, entry) for the entries start[r] : start[r + 1] of the given rows."""
    counts = start[rows + 1] - start[rows]
    owner = np.repeat(np.arange(len(rows)), counts)
    inside = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return owner, start[rows][owner] + inside


def _item_queries(
    samples: TrainingSamples, rows: np.ndarray, order: MomentOrder | None, *, seed: int, epoch: int
) -> ItemQueries:
    table = samples.items
    row_Q, query = _spans(table.start, rows)
    asked = draw(query, seed=seed, epoch=epoch, stream=_ASKED) < table.share[query]
    row_Q, query = row_Q[asked], query[asked]
    bounds = np.r_[table.low[query], 0]
    counts = table.high[query] - table.low[query]
    query_P = np.repeat(np.arange(len(query)), counts)
    event_P = bounds[:-1][query_P] + np.arange(len(query_P)) - np.repeat(np.cumsum(counts) - counts, counts)
    if order is not None:
        event_P = order.event(row_Q[query_P], event_P)
    valid = samples.target_mask[event_P]
    query_P, item_P = (
        query_P[valid],
        np.asarray(samples.histories.item_index)[event_P[valid]].astype(np.int64),
    )
    num_items = samples.tables.num_items + 1
    pairs = np.unique(query_P * num_items + item_P)
    query_P = pairs // num_items
    pair_id = query[query_P] * num_items + pairs % num_items
    pairs = pairs[np.lexsort((draw(pair_id, seed=seed, epoch=epoch, stream=_TARGETS), query_P))]
    rank = np.arange(len(pairs)) - np.searchsorted(query_P, query_P)
    pairs = pairs[rank < samples.config.max_targets]
    return ItemQueries(
        row_Q=torch.from_numpy(row_Q),
        length_Q=torch.from_numpy(table.prefix[query] - samples.begin[rows][row_Q]),
        weight_Q=torch.from_numpy(table.weight[query]),
        period_Q=torch.from_numpy(table.period[query]),
        discovers_Q=torch.from_numpy(table.inner[query]),
        target_query_P=torch.from_numpy(pairs // num_items),
        target_item_P=torch.from_numpy(pairs % num_items),
    )


def _next_items(
    samples: TrainingSamples, begin: np.ndarray, end: np.ndarray, *, num_positions: int
) -> NextItems:
    """Every event of the windows that may be a target, asked for by the position before it."""
    length = end - begin
    row_N = np.repeat(np.arange(len(begin)), length)
    place_N = np.arange(len(row_N)) - np.repeat(np.cumsum(length) - length, length)
    event_N = begin[row_N] + place_N
    asked = samples.target_mask[event_N]
    target_N = np.asarray(samples.histories.item_index)[event_N[asked]].astype(np.int64)
    return NextItems(
        position_N=torch.from_numpy((row_N * num_positions + place_N)[asked]),
        target_N=torch.from_numpy(target_N),
    )


def _among_candidates(
    histories: Histories,
    items: ItemQueries | NextItems,
    negatives: Negatives,
    content: ItemContent,
    *,
    seed: int,
    position: tuple[int, int],
) -> tuple[Histories, ItemQueries | NextItems, Candidates]:
    """Items and times renamed to their places among those of the batch: its own items, targets and drawn
    negatives, and the times of its queries."""
    drawn, log_share = negatives.draw(seed=seed, epoch=position[0], step=position[1])
    target = items.target_N if isinstance(items, NextItems) else items.target_item_P
    in_batch = torch.cat([histories.item_BL.ravel(), target]).numpy()
    item_V = np.unique(np.r_[PAD, in_batch, drawn])
    log_weight_V = np.full(len(item_V), -np.inf, np.float32)
    drawn_K = np.searchsorted(item_V, drawn)
    log_weight_V[drawn_K] = -log_share

    def place(item: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.searchsorted(item_V, item.numpy()))

    if isinstance(items, NextItems):
        items, time_T = items._replace(target_N=place(target)), np.zeros(1, np.int64)
    else:
        time_T, period_Q = np.unique(items.period_Q.numpy(), return_inverse=True)
        items = items._replace(target_item_P=place(target), period_Q=torch.from_numpy(period_Q))
    return (
        histories._replace(item_BL=place(histories.item_BL)),
        items,
        Candidates(content.take(item_V, time_T), torch.from_numpy(log_weight_V), torch.from_numpy(drawn_K)),
    )


def _cut_queries(samples: TrainingSamples, rows: np.ndarray) -> CutQueries:
    table = samples.cuts
    row_K, query = _spans(table.start, rows)
    slot = np.arange(len(row_K)) - np.searchsorted(row_K, row_K)
    # at least one, masked: ranks must run the same modules whatever they were dealt
    shape = (len(rows), int(slot.max(initial=0)) + 1)

    def padded(values: np.ndarray, dtype: type) -> torch.Tensor:
        out = np.zeros((*shape, *values.shape[1:]), dtype)
        out[row_K, slot] = values
        return torch.from_numpy(out)

    return CutQueries(
        mask_BC=padded(np.ones(len(row_K), bool), bool),
        length_BC=padded(table.prefix[query] - samples.begin[rows][row_K], np.int64),
        features_BCR=padded(samples.scaler(table.features[query]), np.float32),
        spend_BCH=padded(table.spend[query], np.float32),
        observed_BCH=padded(table.observed[query], bool),
        next_active_days_BC=padded(table.next_active_days[query], np.float32),
        observed_days_BC=padded(table.observed_days[query], np.float32),
        converted_BC=padded(table.converted[query], bool),
    )


def predict_batch(
    flat: FlatHistories, table: CutTable, rows: np.ndarray, *, scaler: CutScaler, max_length: int
) -> PredictBatch:
    """Users of a cut table with their newest events up to the cut."""
    first = np.asarray(flat.offsets)[table.user_index[rows] - 1]
    end = first + table.prefix_length[rows]
    histories = pad_histories(
        flat, begin=np.maximum(first, end - max_length), end=end, profile_BF=table.profile[rows]
    )
    return PredictBatch(
        histories=histories.counted(),
        features_BR=torch.from_numpy(scaler(raw_cut_features(table.activity[rows]))),
        user_index_B=torch.from_numpy(table.user_index[rows]),
    )
