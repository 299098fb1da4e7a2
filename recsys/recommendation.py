"""Bundle + tables -> what each user is shown and worth at a cut: ranked items, vectors, value, a slate.

Legend: U users of a chunk (the very last one is `anyone`), B users scored at once, V items (row 0 is
padding), K ranks or slots, S score width, H horizons, J hazard bins, I ends of an interval.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recsys.bundle import Bundle
from recsys.bundle_fit import catalogue_for, check_fit, check_unseen
from recsys.data.cut_features import CutScaler
from recsys.data.cut_tables import CutTable
from recsys.data.tables import FeatureTables, Items
from recsys.evaluation.best_items import BestFinder, BestItems, finds_without_scores
from recsys.evaluation.dial import advantage_of
from recsys.evaluation.scoring import ScoredUsers, item_vectors, score_users
from recsys.evaluation.views import candidate_scores, carried, category_of, seen_and_targets
from recsys.metrics.ragged import Ragged
from recsys.nn.value_heads import ValueHeadsConfig
from recsys.policy.candidates import candidates_hash
from recsys.policy.exposure import MOST_USERS, exposure_prices
from recsys.policy.slates import PolicyConfig, Slates, draw_among, draw_slates
from recsys.retrieval.approximate import ApproximateConfig
from recsys.schema import InputError, Recommendation
from recsys.valuation.law import INTERVAL, NUM_DRAWS

CHUNK_USERS = 8192


@dataclass(frozen=True)
class TurnedDial:
    """effect_V: what the critic says of items; weight_U: the dial times what it says of the cut table's rows,
    `anyone` after them.
    """

    effect_V: np.ndarray
    weight_U: np.ndarray


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
    occasion that slates are drawn for: another one brings other luck. `approximate`: the best items are found
    by an index that may miss some, for catalogues of millions of items. Raises InputError where bundle and
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
        approximate: ApproximateConfig | None = None,
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
        self._dial = dial_of(bundle, tables, self._table, dial=self.dial)
        self._is_linear = finds_without_scores(self.model, policy)
        if approximate is not None and not self._is_linear:
            raise InputError(
                "approximate finds the best items only, but this policy looks at all of them, or this model "
                "has neighbours; set policy.num_candidates, or approximate=null"
            )
        self._price_V = np.zeros(len(self._known_V), np.float32)
        if policy.max_share is not None:
            self._price_V = self._exposure_prices()
        self._finder = BestFinder(
            shift_V=np.where(self._known_V, -self._price_V, np.float32(-np.inf)),
            effect_V=None if self._dial is None else self._dial.effect_V,
            approximate=approximate,
        )

    def chunk(self, number: int, *, progress: str | None = None) -> Recommendations:
        """The answer to the users of one chunk; the last one ends with `anyone`."""
        start, stop = number * self._size, (number + 1) * self._size
        table = self._table.rows(slice(start, stop))
        num_users = len(table.user_index)
        if stop > self.num_users:
            table = table.with_anyone()
        num_rows = len(table.user_index)
        table = table.rows(np.minimum(np.arange(self._size), num_rows - 1))
        parts: dict[str, list[np.ndarray]] = {}
        drawn: list[Slates] = []
        for chunk, best, slates in self._ranked(table, first=start, progress=progress):
            drawn.append(slates)
            for name, part in _chunk_parts(chunk, best.first(self.top_k)).items():
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
            slates=Slates.joined(drawn).rows(back[:num_users]),
            items=self.items,
            heads=heads.config if heads is not None else None,
        )

    def scores(self, row_B: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Scores (B, V) of some users by their rows of the cut, num_users for `anyone`, as slates are drawn
        from; with them the places in row_B that they are of.
        """
        if not len(row_B):
            return
        table = self._table.with_anyone().rows(row_B)
        seen = self._seen(table)
        for chunk in self._scored(table, linear=False, num_draws=0):
            yield chunk.rows, self._final(chunk, seen, row_B[chunk.rows]) - self._price_V

    def _ranked(
        self, table: CutTable, *, first: int, progress: str | None
    ) -> Iterator[tuple[ScoredUsers, BestItems, Slates]]:
        """Users in batches, their best items, and what they are shown; `first`: the place of the table's
        first row among all users.
        """
        seen = self._seen(table)
        policy = self.policy
        for chunk in self._scored(table, linear=self._is_linear, num_draws=NUM_DRAWS, progress=progress):
            user_index_B, carried_UC = table.user_index[chunk.rows], self._carried_UC
            drawing = {
                "user_index_B": user_index_B,
                "config": policy,
                "occasion": self.occasion,
                "category_V": self._category_V,
                "carried_BC": None if carried_UC is None else carried_UC[user_index_B].toarray(),
            }
            if chunk.linear is None:
                score_BV = self._final(chunk, seen, first + chunk.rows) - self._price_V
                # Before anything is ranked: this also refuses scores that are not numbers.
                slates = draw_slates(scores_BV=score_BV, **drawing)
                yield chunk, BestItems.of_scores(score_BV, k=self.top_k), slates
                continue
            weight_B = None
            if self._dial is not None:
                weight_B = self._dial.weight_U[np.minimum(first + chunk.rows, self.num_users)]
            best = self._finder.best(
                chunk.linear,
                k=max(self.top_k, policy.num_candidates or policy.slate_size),
                weight_B=weight_B,
                seen=None if seen is None else seen.select(chunk.rows),
            )
            among = best.first(policy.num_candidates or policy.slate_size)
            slates = draw_among(item_BN=among.item_BN, score_BN=among.score_BN, **drawing)
            if policy.num_candidates is None:
                slates = dataclasses.replace(slates, candidates_hash_B=self._hashes(seen, chunk.rows))
            yield chunk, best, slates

    def _hashes(self, seen: Ragged | None, rows_B: np.ndarray) -> tuple[str, ...]:
        """Of all candidates of each user."""
        item_N = np.flatnonzero(self._known_V)
        if seen is None:
            return (candidates_hash(item_N),) * len(rows_B)
        return tuple(candidates_hash(np.setdiff1d(item_N, seen.row(row))) for row in rows_B.tolist())

    def _seen(self, table: CutTable) -> Ragged | None:
        """The items of each row that are no candidates, None where all are."""
        return seen_and_targets(self.tables, table)[0] if self.tables.metadata["filter_seen"] else None

    def _scored(
        self, table: CutTable, *, linear: bool, num_draws: int, progress: str | None = None
    ) -> Iterator[ScoredUsers]:
        return score_users(
            model=self.model,
            catalogue=self._catalogue,
            tables=self.tables,
            table=table,
            scaler=self._scaler,
            calibration=self._calibration,
            num_draws=num_draws,
            linear=linear,
            progress=progress,
        )

    def _final(self, chunk: ScoredUsers, seen: Ragged | None, place_B: np.ndarray) -> np.ndarray:
        """float32 (B, V): scores with the dial turned, -inf for what is no candidate. `place_B`: of the users
        among all.
        """
        score_BV = candidate_scores(chunk.score_BV, candidate=self._known_V, seen=seen, rows=chunk.rows)
        if self._dial is None:
            return score_BV
        weight_B = self._dial.weight_U[np.minimum(place_B, self.num_users)]
        turned: np.ndarray = score_BV + weight_B[:, None] * self._dial.effect_V
        return turned

    def _exposure_prices(self) -> np.ndarray:
        """float32 (V,), found on users evenly spaced among all, the same on every rank."""
        rows = np.unique(np.linspace(0, self.num_users - 1, MOST_USERS).astype(np.int64))
        table = self._table.rows(rows)
        seen = self._seen(table)
        scored = [
            (table.user_index[chunk.rows], self._final(chunk, seen, rows[chunk.rows]))
            for chunk in self._scored(table, linear=False, num_draws=0)
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


def dial_of(bundle: Bundle, tables: FeatureTables, table: CutTable, *, dial: float) -> TurnedDial | None:
    """None for 0. InputError for a dial that a bundle without a critic cannot turn."""
    if dial == 0:
        return None
    advantage = advantage_of(bundle)
    if advantage is None:
        raise InputError(
            f"policy.dial={dial:g} needs a critic, which this bundle has not; train it anew on a longer "
            "log, or set policy.dial=0"
        )
    event_types = tables.metadata["event_types"]
    known_U = advantage.user_weights(tables.histories, table.user_index, table.cut, event_types=event_types)
    return TurnedDial(
        effect_V=advantage.effects(tables.num_items + 1),
        weight_U=np.float32(dial) * np.r_[known_U, np.float32(1)],
    )


def _chunk_parts(chunk: ScoredUsers, best: BestItems) -> dict[str, np.ndarray]:
    found = {
        "rows": chunk.rows,
        "item_UK": best.item_BN.astype(np.int32),
        "score_UK": best.score_BN,
        "user_vector_US": chunk.vector_BS,
        "spend_UH": chunk.spend_BH,
        "return_UJ": chunk.return_BJ,
        "conversion_U": chunk.conversion_B,
    }
    if chunk.draws_BHS is not None:
        found["interval_UHI"] = np.moveaxis(np.quantile(chunk.draws_BHS, INTERVAL, axis=-1), 0, -1)
    return {name: part for name, part in found.items() if part is not None}
