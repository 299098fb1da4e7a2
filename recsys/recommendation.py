"""Bundle + tables -> what each user is shown and worth at a cut: ranked items, vectors, value, a slate.

Legend: U users of a chunk (the very last one is `anyone`), B users scored at once, V items (row 0 is
padding), K ranks or slots, S score width, H horizons, J hazard bins, I ends of an interval.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from recsys.bundle import Bundle
from recsys.bundle_fit import catalogue_for, check_fit, check_unseen
from recsys.data.cut_features import CutScaler
from recsys.data.cut_tables import CutTable
from recsys.data.tables import FeatureTables, Items
from recsys.evaluation.dial import advantage_of
from recsys.evaluation.scoring import ScoredUsers, item_vectors, score_users
from recsys.evaluation.views import candidate_scores, carried, category_of, seen_and_targets, top_ranked
from recsys.nn.value_heads import ValueHeadsConfig
from recsys.policy.exposure import MOST_USERS, exposure_prices
from recsys.policy.slates import PolicyConfig, Slates, draw_slates
from recsys.schema import InputError, Recommendation
from recsys.valuation.law import INTERVAL, NUM_DRAWS

CHUNK_USERS = 8192

Turn = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (scores (B, V), rows of the cut table) -> scores


@dataclass(frozen=True)
class Recommendations:
    """Rows are users of the cut by user_index, then `anyone` in the last chunk; `slates` leaves that row out.

    item_UK: int32 by falling score, 0 where the candidates run out; score_UK: float32, the model's logits;
    user_vector_US: float32 unit vectors; spend_UH: money up to each horizon; return_UJ:
    probability of an event by the end of each hazard bin; conversion_U: of a purchase within the first
    horizon. interval_UHI: 5 % and 95 % points of the money's law. The last four are None without that head.
    """

    user_key_U: np.ndarray
    item_UK: np.ndarray
    score_UK: np.ndarray
    user_vector_US: np.ndarray
    spend_UH: np.ndarray | None
    return_UJ: np.ndarray | None
    conversion_U: np.ndarray | None
    interval_UHI: np.ndarray | None
    slates: Slates
    items: Items
    heads: ValueHeadsConfig | None


class Recommender:
    """Answers all users of the examples at the cut of split `at`, and one without history, a chunk at a time.

    Candidates are all items first seen by the cut, those that are new to the bundle too, without those of the
    user's own history where the data set filters them. `shown_at` (a timestamp, None: the cut) is the
    occasion that slates are drawn for: another one brings other luck. Raises InputError where bundle and
    tables do not fit.

    A chunk is a run of users by user_index; its answer depends on no other chunk, and memory on the size of
    one. All make the same number of calls to the model, as item tables that ranks share need.
    """

    def __init__(
        self,
        *,
        bundle: Bundle,
        tables: FeatureTables,
        at: str,
        top_k: int,
        policy: PolicyConfig,
        shown_at: int | None = None,
        chunk_users: int = CHUNK_USERS,
    ) -> None:
        check_fit(bundle, tables)
        check_unseen(bundle, tables, at)
        assert top_k >= 1
        self.model, self.tables, self.items = bundle.model, tables, tables.items(at)
        self.top_k, self.policy = top_k, policy
        self._scaler, self._calibration = CutScaler(**bundle.scaler), bundle.calibration
        self._table, self._catalogue = tables.at_cut(split=at), catalogue_for(bundle, tables, at)
        self._known_V = self.items.in_training & (np.arange(len(self.items.in_training)) > 0)
        self.occasion = self._table.cut if shown_at is None else shown_at
        self.num_users = len(self._table.user_index)
        self.num_chunks = -(-(self.num_users + 1) // chunk_users)
        self._size = -(-(self.num_users + 1) // self.num_chunks)
        self._category_V = category_of(tables, self.items)
        self._carried_UC = carried(tables, self.items, policy=policy, at=self.occasion)
        self.dial = bundle.dial if policy.dial is None else policy.dial
        self._turn = dial_of(bundle, tables, self._table, dial=self.dial)
        self._price_V = np.zeros(len(self._known_V), np.float32)
        if policy.max_share is not None:
            self._price_V = self._exposure_prices()

    def chunk(self, number: int, *, progress: str | None = None) -> Recommendations:
        """The answer to the users of one chunk; the last one ends with `anyone`."""
        start, stop = number * self._size, (number + 1) * self._size
        table = self._table.rows(slice(start, stop))
        num_users = len(table.user_index)
        if stop > self.num_users:
            table = with_anyone(table)
        num_rows = len(table.user_index)
        table = table.rows(np.minimum(np.arange(self._size), num_rows - 1))
        parts: dict[str, list[np.ndarray]] = {}
        drawn: list[Slates] = []
        for chunk, score_BV in self._scored(table, first=start, num_draws=NUM_DRAWS, progress=progress):
            score_BV, user_index_B = score_BV - self._price_V, table.user_index[chunk.rows]
            carried_UC = self._carried_UC
            # Before anything is ranked: this also refuses scores that are not numbers.
            drawn.append(
                draw_slates(
                    scores_BV=score_BV,
                    user_index_B=user_index_B,
                    config=self.policy,
                    occasion=self.occasion,
                    category_V=self._category_V,
                    carried_BC=None if carried_UC is None else carried_UC[user_index_B].toarray(),
                )
            )
            for name, part in _chunk_parts(chunk, score_BV, self._known_V, self.top_k).items():
                parts.setdefault(name, []).append(part)
        back = np.argsort(np.concatenate(parts.pop("rows")))[:num_rows]
        gathered = {name: np.concatenate(part)[back] for name, part in parts.items()}
        user_key_U = self.tables.histories.user_key[table.user_index[:num_users] - 1]
        heads = self.model.value_heads
        return Recommendations(
            user_key_U=np.r_[user_key_U, [Recommendation.ANYONE] * (num_rows - num_users)],
            item_UK=gathered["item_UK"],
            score_UK=gathered["score_UK"],
            user_vector_US=gathered["user_vector_US"],
            spend_UH=gathered.get("spend_UH"),
            return_UJ=gathered.get("return_UJ"),
            conversion_U=gathered.get("conversion_U"),
            interval_UHI=gathered.get("interval_UHI"),
            slates=_in_order(drawn, back[:num_users]),
            items=self.items,
            heads=heads.config if heads is not None else None,
        )

    def scores(self, row_B: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Scores (B, V) of some users by their rows of the cut, num_users for `anyone`, as slates are drawn
        from; with them the places in row_B that they are of.
        """
        if not len(row_B):
            return
        table = with_anyone(self._table).rows(row_B)
        for chunk, score_BV in self._scored(table, first=row_B, num_draws=0):
            yield chunk.rows, score_BV - self._price_V

    def _scored(
        self, table: CutTable, *, first: int | np.ndarray, num_draws: int, progress: str | None = None
    ) -> Iterator[tuple[ScoredUsers, np.ndarray]]:
        """Users in batches, and their scores (B, V) with the dial turned, -inf for what is no candidate.

        `first`: where the table's rows lie among all users: the place of the first, or of each.
        """
        seen = seen_and_targets(self.tables, table)[0] if self.tables.metadata["filter_seen"] else None
        for chunk in score_users(
            model=self.model,
            catalogue=self._catalogue,
            tables=self.tables,
            table=table,
            scaler=self._scaler,
            calibration=self._calibration,
            num_draws=num_draws,
            progress=progress,
        ):
            score_BV = candidate_scores(chunk.score_BV, candidate=self._known_V, seen=seen, rows=chunk.rows)
            if self._turn is not None:
                rows_B = first[chunk.rows] if isinstance(first, np.ndarray) else first + chunk.rows
                score_BV = self._turn(score_BV, np.minimum(rows_B, self.num_users))
            yield chunk, score_BV

    def _exposure_prices(self) -> np.ndarray:
        """float32 (V,), found on users evenly spaced among all, the same on every rank."""
        rows = np.unique(np.linspace(0, self.num_users - 1, MOST_USERS).astype(np.int64))
        table = self._table.rows(rows)
        scored = [
            (table.user_index[chunk.rows], score_BV)
            for chunk, score_BV in self._scored(table, first=rows, num_draws=0)
        ]
        user_index_B, scores_BV = (np.concatenate(part) for part in zip(*scored, strict=True))
        return exposure_prices(
            scores_BV=scores_BV,
            user_index_B=user_index_B,
            config=self.policy,
            occasion=self.occasion,
            category_V=self._category_V,
        )

    def item_vectors(self) -> np.ndarray:
        """float32 unit vectors (V, S), padding and items first seen after the cut among them."""
        return item_vectors(self.model, self._catalogue)


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
    known_U = advantage.user_weights(tables.histories, table.user_index, table.cut, event_types=event_types)
    weight_U = np.r_[known_U, np.float32(1)]  # the last one is anyone's
    return lambda score_BV, rows_B: advantage.scores(score_BV, weight_U[rows_B], dial=dial)


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
    if chunk.draws_BHS is not None:
        found["interval_UHI"] = np.moveaxis(np.quantile(chunk.draws_BHS, INTERVAL, axis=-1), 0, -1)
    return {name: part for name, part in found.items() if part is not None}


def with_anyone(table: CutTable) -> CutTable:
    """The table with one more row: a user of whom nothing is known."""

    def added(values: np.ndarray, fill: float) -> np.ndarray:
        return np.concatenate([values, np.full((1, *values.shape[1:]), fill, values.dtype)])

    return dataclasses.replace(
        table,
        # any user will do, no event of a prefix of length 0 is read; the last one is near the others
        user_index=added(table.user_index, table.user_index[-1] if len(table.user_index) else 1),
        prefix_length=added(table.prefix_length, 0),
        activity=added(table.activity, np.nan),
        profile=added(table.profile, 0),
        spend=added(table.spend, np.nan),
        num_purchases=added(table.num_purchases, 0),
        num_active_days=added(table.num_active_days, 0),
        next_active_days=added(table.next_active_days, np.inf),
        observed_days=added(table.observed_days, 0),
    )


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
