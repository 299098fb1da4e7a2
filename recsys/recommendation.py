"""Bundle + tables -> what each user is shown and worth at a cut: ranked items, vectors, value, a slate.

Legend: U users (the last one is `anyone`), B users of a chunk, V items (row 0 is padding), K ranks or slots,
S score width, H horizons, J hazard bins.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys.bundle import Bundle
from recsys.bundle_fit import catalogue_for, check_fit, check_unseen
from recsys.data.cut_features import CutScaler
from recsys.data.cut_tables import CutTable
from recsys.data.tables import FeatureTables, Items
from recsys.evaluation.dial import advantage_of, carried
from recsys.evaluation.scoring import ScoredUsers, item_vectors, score_users
from recsys.evaluation.views import category_of, seen_and_targets, top_ranked
from recsys.metrics.ragged import Ragged
from recsys.nn.value_heads import ValueHeadsConfig
from recsys.policy.exposure import MOST_USERS, exposure_prices
from recsys.policy.slates import PolicyConfig, Slates, draw_slates
from recsys.schema import Column, InputError, Recommendation

Turn = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (scores (B, V), rows of the cut table) -> scores


@dataclass(frozen=True)
class Recommendations:
    """Rows are the users of the cut by user_index, then `anyone`; `slates` leaves that last row out.

    item_UK: int32 by falling score, 0 where the candidates run out; score_UK: float32, the model's logits;
    user_vector_US, item_vector_VS: float32 unit vectors; spend_UH: money up to each horizon; return_UJ:
    probability of an event by the end of each hazard bin; conversion_U: of a purchase within the first
    horizon. The last three are None without that head.
    """

    user_key_U: np.ndarray
    item_UK: np.ndarray
    score_UK: np.ndarray
    user_vector_US: np.ndarray
    item_vector_VS: np.ndarray
    spend_UH: np.ndarray | None
    return_UJ: np.ndarray | None
    conversion_U: np.ndarray | None
    slates: Slates
    items: Items
    heads: ValueHeadsConfig | None


def recommend(
    *,
    bundle: Bundle,
    tables: FeatureTables,
    at: str,
    top_k: int,
    policy: PolicyConfig,
    shown_at: int | None = None,
    progress: bool = True,
) -> Recommendations:
    """Score every user of the examples at the cut of split `at`, and one without history.

    Candidates are all items first seen by the cut, those that are new to the bundle too, without those of the
    user's own history where the data set filters them. `shown_at` (a timestamp, None: the cut) is the
    occasion that slates are drawn for: another one brings other luck. Raises InputError where bundle and
    tables do not fit.
    """
    check_fit(bundle, tables)
    check_unseen(bundle, tables, at)
    assert top_k >= 1
    table, items = with_anyone(tables.at_cut(split=at)), tables.items(at)
    catalogue = catalogue_for(bundle, tables, at)
    candidates = _Candidates(
        known_V=items.in_training & (np.arange(len(items.in_training)) > 0),
        seen=seen_and_targets(tables, table)[0] if tables.metadata["filter_seen"] else None,
        turn=dial_of(bundle, tables, table, dial=policy.dial),
    )
    scored = functools.partial(
        score_users, model=bundle.model, catalogue=catalogue, tables=tables, scaler=CutScaler(**bundle.scaler)
    )
    occasion = table.cut if shown_at is None else shown_at
    category_V, carried_UC = category_of(tables, items), carried(tables, items, policy=policy, at=occasion)
    price_V = np.zeros(len(items.in_training), np.float32)
    if policy.max_share is not None:
        rows_B = np.unique(np.linspace(0, len(table.user_index) - 2, MOST_USERS).astype(np.int64))
        chunks = [_at_rows(chunk, rows_B) for chunk in scored(table=table.rows(rows_B))]
        price_V = exposure_prices(
            scores_BV=np.concatenate([candidates.scores(chunk) for chunk in chunks]),
            user_index_B=np.concatenate([table.user_index[chunk.rows] for chunk in chunks]),
            config=policy,
            occasion=occasion,
            category_V=category_V,
        )
    parts: dict[str, list[np.ndarray]] = {}
    drawn: list[Slates] = []
    for chunk in scored(table=table, progress="recommending" if progress else None):
        score_BV, user_index_B = candidates.scores(chunk) - price_V, table.user_index[chunk.rows]
        # Before anything is ranked: this also refuses scores that are not numbers.
        drawn.append(
            draw_slates(
                scores_BV=score_BV,
                user_index_B=user_index_B,
                config=policy,
                occasion=occasion,
                category_V=category_V,
                carried_BC=None if carried_UC is None else carried_UC[user_index_B].toarray(),
            )
        )
        for name, part in _chunk_parts(chunk, score_BV, candidates.known_V, top_k).items():
            parts.setdefault(name, []).append(part)
    back = np.argsort(np.concatenate(parts.pop("rows")))
    gathered = {name: np.concatenate(part)[back] for name, part in parts.items()}
    heads = bundle.model.value_heads
    return Recommendations(
        user_key_U=np.r_[tables.histories.user_key[table.user_index[:-1] - 1], [Recommendation.ANYONE]],
        item_UK=gathered["item_UK"],
        score_UK=gathered["score_UK"],
        user_vector_US=gathered["user_vector_US"],
        item_vector_VS=item_vectors(bundle.model, catalogue),
        spend_UH=gathered.get("spend_UH"),
        return_UJ=gathered.get("return_UJ"),
        conversion_U=gathered.get("conversion_U"),
        slates=_in_order(drawn, back[:-1]),
        items=items,
        heads=heads.config if heads is not None else None,
    )


def dial_of(bundle: Bundle, tables: FeatureTables, table: CutTable, *, dial: float | None) -> Turn | None:
    """What turns scores of the table's rows: the dial as it is set, None: as the bundle says. None for 0.

    InputError for a dial that a bundle without a critic cannot turn.
    """
    advantage, dial = advantage_of(bundle), bundle.dial if dial is None else dial
    if dial == 0:
        return None
    if advantage is None:
        raise InputError(
            f"policy.dial={dial:g} needs a critic, which this bundle has not; train it anew on a longer "
            "log, or set policy.dial=0"
        )
    event_types = tables.metadata["event_types"]
    weight_U = advantage.user_weights(tables.histories, table.user_index, table.cut, event_types=event_types)
    return lambda score_BV, rows_B: advantage.scores(score_BV, weight_U[rows_B], dial=dial)


def _at_rows(chunk: ScoredUsers, rows_B: np.ndarray) -> ScoredUsers:
    """A chunk of the table's rows `rows_B`, as one of the table."""
    return dataclasses.replace(chunk, rows=rows_B[chunk.rows])


@dataclass(frozen=True)
class _Candidates:
    """Items known at the cut, each user's own items where those are not to be shown again, and the dial."""

    known_V: np.ndarray
    seen: Ragged | None
    turn: Turn | None

    def scores(self, chunk: ScoredUsers) -> np.ndarray:
        """float32 (B, V): -inf for everything that is no candidate."""
        score_BV = np.where(self.known_V, chunk.score_BV, -np.inf).astype(np.float32)
        if self.seen is not None:
            for b, row in enumerate(chunk.rows):
                score_BV[b, self.seen.row(int(row))] = -np.inf
        return score_BV if self.turn is None else self.turn(score_BV, chunk.rows)


def _chunk_parts(
    chunk: ScoredUsers, score_BV: np.ndarray, known_V: np.ndarray, top_k: int
) -> dict[str, np.ndarray]:
    item_BK = top_ranked(score_BV, candidate=known_V, seen=None, rows=chunk.rows, k=top_k)
    found = {
        "rows": chunk.rows,
        "item_UK": item_BK.astype(np.int32),
        "score_UK": np.take_along_axis(score_BV, item_BK, 1),
        "user_vector_US": chunk.vector_BS,
        "spend_UH": chunk.spend_BH,
        "return_UJ": chunk.return_BJ,
        "conversion_U": chunk.conversion_B,
    }
    return {name: part for name, part in found.items() if part is not None}


def with_anyone(table: CutTable) -> CutTable:
    """The table with one more row: a user of whom nothing is known."""

    def added(values: np.ndarray, fill: float) -> np.ndarray:
        return np.concatenate([values, np.full((1, *values.shape[1:]), fill, values.dtype)])

    return dataclasses.replace(
        table,
        user_index=added(table.user_index, 1),  # any will do: no event of a prefix of length 0 is read
        prefix_length=added(table.prefix_length, 0),
        activity=added(table.activity, np.nan),
        profile=added(table.profile, 0),
        spend=added(table.spend, np.nan),
        num_purchases=added(table.num_purchases, 0),
        num_active_days=added(table.num_active_days, 0),
        next_active_days=added(table.next_active_days, np.inf),
        observed_days=added(table.observed_days, 0),
    )


def top_k_table(found: Recommendations) -> pa.Table:
    """user_key, rank, item_index, item_id, score: a row per user and rank that holds an item."""
    row_R, rank_R = np.nonzero(found.item_UK)
    item_R = found.item_UK[row_R, rank_R]
    return pa.table(
        {
            Column.USER_KEY: pa.array(found.user_key_U[row_R].tolist(), pa.string()),
            Recommendation.RANK: (rank_R + 1).astype(np.int32),
            Column.ITEM_INDEX: item_R,
            Column.ITEM_ID: pa.array(found.items.item_id[item_R].tolist(), pa.string()),
            Recommendation.SCORE: found.score_UK[row_R, rank_R],
        }
    )


def user_vector_table(found: Recommendations) -> pa.Table:
    """user_key, vector."""
    return pa.table(
        {
            Column.USER_KEY: pa.array(found.user_key_U.tolist(), pa.string()),
            Recommendation.VECTOR: _lists(found.user_vector_US),
        }
    )


def item_vector_table(found: Recommendations) -> pa.Table:
    """item_index, item_id, vector of every item in the tables, also of those first seen after the cut."""
    index_R = np.flatnonzero(found.items.item_id != "")
    return pa.table(
        {
            Column.ITEM_INDEX: index_R.astype(np.int32),
            Column.ITEM_ID: pa.array(found.items.item_id[index_R].tolist(), pa.string()),
            Recommendation.VECTOR: _lists(found.item_vector_VS[index_R]),
        }
    )


def value_table(found: Recommendations) -> pa.Table | None:
    """user_key and what each user is worth; None for a model without value heads."""
    if found.heads is None:
        return None
    horizons, bins = found.heads.horizons_days, found.heads.bin_ends_days
    columns: dict[str, pa.Array] = {Column.USER_KEY: pa.array(found.user_key_U.tolist(), pa.string())}
    if found.spend_UH is not None:
        for h, days in enumerate(horizons):
            columns[Recommendation.SPEND.format(days=days)] = pa.array(found.spend_UH[:, h])
    if found.return_UJ is not None:
        for days in horizons:
            if days in bins:
                chance_U = found.return_UJ[:, bins.index(days)]
                columns[Recommendation.RETURN.format(days=days)] = pa.array(chance_U)
    if found.conversion_U is not None:
        columns[Recommendation.CONVERSION.format(days=horizons[0])] = pa.array(found.conversion_U)
    return pa.table(columns)


def _lists(vector_RS: np.ndarray) -> pa.Array:
    offsets = np.arange(len(vector_RS) + 1, dtype=np.int32) * vector_RS.shape[1]
    return pa.ListArray.from_arrays(offsets, pa.array(vector_RS.astype(np.float32).ravel()))


def _in_order(drawn: list[Slates], order: np.ndarray) -> Slates:
    """The slates of all chunks as one, its rows picked by `order`."""
    hashes = [digest for slates in drawn for digest in slates.candidates_hash_B]
    return Slates(
        item_BK=np.concatenate([slates.item_BK for slates in drawn])[order],
        score_BK=np.concatenate([slates.score_BK for slates in drawn])[order],
        propensity_BK=np.concatenate([slates.propensity_BK for slates in drawn])[order],
        candidates_hash_B=tuple(hashes[row] for row in order),
        is_deterministic=drawn[0].is_deterministic,
    )
