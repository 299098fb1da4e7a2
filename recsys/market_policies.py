"""The policies of `recsys simulate`, by name.

Oracles come from recsys.simulator; slates of chance, those of a file that `recommend` wrote and those of a
bundle in service are drawn by recsys.policy, so that their log has its propensities.
Legend: that of recsys.simulator, and R rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.policy.memory import CategoryMemory
from recsys.policy.rows import Check, check_rows, read_rows
from recsys.policy.slates import DETERMINISTIC, PLACKETT_LUCE, PolicyConfig, Slates, draw_slates
from recsys.pseudonym import Key, pseudonym
from recsys.schema import PAD, Column, InputError, Recommendation
from recsys.simulator.logs import item_ids, slate_timestamp, user_ids
from recsys.simulator.market import Day, Market, Policy
from recsys.simulator.policies import (
    Popular,
    Random,
    Ranked,
    Scorer,
    ValueAware,
    expected_clicks,
    expected_revenue,
)
from recsys.simulator.scene import Scene

REFERENCE = "myopic_revenue"
VALUE_AWARE, TOP_K, SERVED, STOCHASTIC = "value_aware", "top_k", "served", "_stochastic"
_SCORERS: dict[str, Scorer] = {"myopic_clicks": expected_clicks, REFERENCE: expected_revenue}
DRAWN = (TOP_K, SERVED, *(name + STOCHASTIC for name in (TOP_K, SERVED, *_SCORERS)))  # these can be logged
NAMES = ("random", "popular", *_SCORERS, VALUE_AWARE, *DRAWN)

_TOP_K_SCHEMA = pa.schema(
    [
        (Column.USER_KEY, pa.string()),
        (Recommendation.RANK, pa.int32()),
        (Column.ITEM_ID, pa.string()),
        (Recommendation.SCORE, pa.float32()),
    ]
)
_ROWS_PER_BLOCK = 1024

DenseScores = Iterable[tuple[np.ndarray, np.ndarray]]  # rows of those present, scores_BV (-inf: none)


@dataclass(frozen=True, kw_only=True)
class PolicyParts:
    """What policies are made with: `slates` says how those of chance draw, `weights` is the oracles' dial;
    bundle and tables are the folders of what is in service, None for nothing.
    """

    slates: PolicyConfig
    shelf_size: int
    weights: list[float]
    top_k: Path | None
    key: Key
    bundle: Path | None = None
    tables: Path | None = None
    cache_dir: Path = Path("outputs/cache")
    renew_days: int = 7


class Drawn:
    """Slates that recsys.policy draws from scores. Remembers what it has shown, and nothing from before.

    `saw` is told of every day that is over.
    """

    def __init__(
        self,
        scores: Callable[[Scene], DenseScores],
        *,
        config: PolicyConfig,
        fingerprint: str,
        saw: Callable[[Day], None] = lambda _: None,
    ) -> None:
        self._scores, self.config, self.saw = scores, config, saw
        self.version = config.version(bundle_fingerprint=fingerprint)
        self._memory: CategoryMemory | None = None

    def __call__(self, scene: Scene) -> Slates:
        num_users, num_slots = len(scene.user_B), self.config.slate_size
        occasion, category_V = slate_timestamp(scene.day), 1 + scene.items.topic_V
        if self._memory is None and self.config.category_memory_days > 0:
            self._memory = CategoryMemory(
                num_users=len(scene.users),
                num_categories=int(category_V.max()),
                half_life_days=self.config.category_memory_days,
            )
        carried_BC = None if self._memory is None else self._memory.carried(scene.user_B, at=occasion)
        item_BK = np.zeros((num_users, num_slots), np.int32)
        score_BK = np.full((num_users, num_slots), np.nan, np.float32)
        propensity_BK = np.full((num_users, num_slots), np.nan)
        hash_B = [""] * num_users
        for row_B, scores_BV in self._scores(scene):
            drawn = draw_slates(
                scores_BV=scores_BV,
                user_index_B=scene.user_B[row_B] + 1,
                config=self.config,
                occasion=occasion,
                category_V=category_V,
                carried_BC=None if carried_BC is None else carried_BC[row_B],
            )
            item_BK[row_B], score_BK[row_B] = drawn.item_BK, drawn.score_BK
            propensity_BK[row_B] = drawn.propensity_BK
            for row, digest in zip(row_B.tolist(), drawn.candidates_hash_B, strict=True):
                hash_B[row] = digest
        if self._memory is not None:
            shown_BK = np.where(item_BK == PAD, 0, category_V[item_BK])
            self._memory.add(scene.user_B, shown_BK, at=occasion)
        return Slates(
            item_BK=item_BK,
            score_BK=score_BK,
            propensity_BK=propensity_BK,
            candidates_hash_B=tuple(hash_B),
            is_deterministic=self.config.is_deterministic,
        )


def make_policies(names: list[str], market: Market, parts: PolicyParts) -> dict[str, Policy]:
    """By name, the reference first; value_aware once a weight. InputError for a name that is not known."""
    made: dict[str, Policy] = {}
    for name in dict.fromkeys([REFERENCE, *names]):
        if name not in NAMES:
            raise InputError(f"policies: {name!r} is unknown; use some of {', '.join(NAMES)}")
        if name == VALUE_AWARE:
            for weight in parts.weights:
                scorer = ValueAware(weight=weight, effects=market.world.satisfaction)
                made[f"{name}_{weight:g}"] = _ranked(scorer, parts)
        elif name in DRAWN:
            made[name] = _drawn(name, market, parts)
        elif name in _SCORERS:
            made[name] = _ranked(_SCORERS[name], parts)
        else:
            kind = Random if name == "random" else Popular
            made[name] = kind(slate_size=parts.slates.slate_size)
    return made


def _ranked(scorer: Scorer, parts: PolicyParts) -> Ranked:
    return Ranked(scorer, slate_size=parts.slates.slate_size, shelf_size=parts.shelf_size)


def _drawn(name: str, market: Market, parts: PolicyParts) -> Drawn:
    by_chance = name.endswith(STOCHASTIC)
    config = dataclasses.replace(
        parts.slates,
        kind=PLACKETT_LUCE if by_chance else DETERMINISTIC,
        exploration_floor=parts.slates.exploration_floor if by_chance else 0.0,
    )
    if name.startswith(SERVED):
        return _served(market, parts, config)
    if not name.startswith(TOP_K):
        ranked = _ranked(_SCORERS[name.removesuffix(STOCHASTIC)], parts)
        return Drawn(
            lambda scene: _log_scores(ranked, scene),
            config=config,
            fingerprint=f"{market.identity} {name} {parts.shelf_size}",
        )
    if parts.top_k is None:
        raise InputError(f"policy {name} shows what a file holds; set top_k to one that `recommend` wrote")
    item_UN, score_UN = read_top_k(parts.top_k, market, parts.key)
    return Drawn(
        lambda scene: _file_scores(item_UN, score_UN, scene),
        config=config,
        fingerprint=hashlib.sha256(parts.top_k.read_bytes()).hexdigest(),
    )


def _served(market: Market, parts: PolicyParts, config: PolicyConfig) -> Drawn:
    if parts.bundle is None or parts.tables is None:
        raise InputError(
            f"policy {SERVED} shows what a bundle scores from the log so far; set bundle to its folder and "
            "tables to that of the log's feature tables"
        )
    from recsys.bundle import load_bundle  # torch is for those who serve
    from recsys.data.tables import FeatureTables
    from recsys.market_service import Service

    bundle = load_bundle(parts.bundle)
    tables = FeatureTables(tables_dir=parts.tables, cache_dir=parts.cache_dir)
    config = dataclasses.replace(config, dial=bundle.dial if config.dial is None else config.dial)
    service = Service(
        bundle=bundle, tables=tables, market=market, key=parts.key, policy=config, renew_days=parts.renew_days
    )
    fingerprint = f"{bundle.fingerprint} {tables.fingerprint} {parts.renew_days}"
    return Drawn(service, config=config, fingerprint=fingerprint, saw=service.saw)


def _log_scores(ranked: Ranked, scene: Scene) -> DenseScores:
    """So that chances at temperature 1 are in proportion to what is expected."""
    for row_B, item_C, score_BC in ranked.scored(scene):
        scores_BV = np.full((len(row_B), scene.items.num_items + 1), -np.inf, np.float32)
        scores_BV[:, item_C] = np.log(np.maximum(score_BC, np.finfo(np.float32).tiny))
        yield row_B, scores_BV


def _file_scores(item_UN: np.ndarray, score_UN: np.ndarray, scene: Scene) -> DenseScores:
    for start in range(0, len(scene.user_B), _ROWS_PER_BLOCK):
        row_B = np.arange(start, min(start + _ROWS_PER_BLOCK, len(scene.user_B)))
        scores_BV = np.full((len(row_B), scene.items.num_items + 1), -np.inf, np.float32)
        user_B = scene.user_B[row_B]
        np.put_along_axis(scores_BV, item_UN[user_B], score_UN[user_B], axis=1)
        scores_BV[:, PAD] = -np.inf
        yield row_B, scores_BV


def read_top_k(path: Path, market: Market, key: Key) -> tuple[np.ndarray, np.ndarray]:
    """What `recommend` wrote as items (U, N), 0 for none, and scores (U, N).

    Users whom the file does not name get what it has for anyone, else nothing. InputError for a file without
    users, or with items, that this market does not have.
    """
    table = read_rows(path, _TOP_K_SCHEMA)
    check_rows(
        table,
        source=str(path),
        required=_TOP_K_SCHEMA.names,
        checks=(
            Check(Recommendation.RANK, lambda column: pc.greater_equal(column, 1), "must be 1 or more"),
            Check(Recommendation.SCORE, pc.is_finite, "must be finite"),
        ),
    )
    num_users, num_items = len(market.users), market.items.num_items
    row_of_key = {pseudonym(name, key): row for row, name in enumerate(user_ids(np.arange(num_users)))}
    anyone = num_users
    row_of_key[Recommendation.ANYONE] = anyone
    index_of_item = {name: index for index, name in enumerate(item_ids(np.arange(1, num_items + 1)), 1)}
    row_R = np.array([row_of_key.get(name, -1) for name in table[Column.USER_KEY].to_pylist()])
    if not ((row_R >= 0) & (row_R < anyone)).any():
        raise InputError(f"{path} names no user of this market under the current key; check both")
    item_R = np.array([index_of_item.get(name, PAD) for name in table[Column.ITEM_ID].to_pylist()])
    if (item_R == PAD).any():
        name = table[Column.ITEM_ID][int((item_R == PAD).argmax())].as_py()
        raise InputError(f"{path} recommends {name!r}, which this market does not have; check its sizes")
    rank_R, score_R = table[Recommendation.RANK].to_numpy(), table[Recommendation.SCORE].to_numpy()
    ours_R = row_R >= 0
    item_UN = np.zeros((num_users + 1, int(rank_R.max())), np.int32)
    score_UN = np.full(item_UN.shape, -np.inf, np.float32)
    item_UN[row_R[ours_R], rank_R[ours_R] - 1] = item_R[ours_R]
    score_UN[row_R[ours_R], rank_R[ours_R] - 1] = score_R[ours_R]
    unnamed_U = (item_UN[:-1] == PAD).all(axis=1)
    item_UN[:-1][unnamed_U], score_UN[:-1][unnamed_U] = item_UN[-1], score_UN[-1]
    return item_UN[:-1], score_UN[:-1]
