"""Draw slates of items, with the propensity of every choice.

The stochastic policy is Plackett-Luce with an exploration floor: slot by slot, without replacement, the item
in slot k given the slots before has the propensity

    (1 - floor) * softmax(score / temperature over the remaining candidates) + floor / (number remaining)

(R. L. Plackett, The Analysis of Permutations, 1975; R. D. Luce, Individual Choice Behavior, 1959). The
deterministic policy shows the best-scored candidates in order, each with propensity 1.

With `category_penalty` an item's score falls by it for every item of its category in the slots before, and
for those remembered of earlier slates: maximal marginal relevance (Carbonell & Goldstein 1998) with the
category as the similarity.

Legend: B users, V items (column 0 is padding), N candidates, K slots.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.policy.candidates import candidates_hashes, top_candidates
from recsys.policy.penalty import Penalty
from recsys.schema import PAD, InputError
from recsys.settings import check_range

PLACKETT_LUCE = "plackett_luce"
DETERMINISTIC = "deterministic"

# Scores worked on at once; a slate does not depend on it, only the memory does (about 100 MB).
_SCORES_PER_BLOCK = 2**21


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """How slates are drawn. Raises InputError where the settings contradict each other.

    `temperature` divides the scores as they are handed in. `exploration_floor` is the share of each slot's
    probability that is spread evenly over the remaining candidates. `num_candidates` keeps that many
    best-scored items per user (None: all). `seed` chooses the draws: no part of the policy's identity,
    but of each slate's. `dial` goes from accuracy (0) to long-term value; None: as far as the bundle says.
    `category_penalty` is in the unit of the scores; slots of earlier slates count for it too, halved every
    `category_memory_days` (0: they are forgotten). `max_share` is the most that an item may have of all slots
    (None: any share), kept by the prices of `recsys.policy.exposure`.
    """

    kind: str
    slate_size: int
    temperature: float = 1.0
    exploration_floor: float = 0.0
    num_candidates: int | None = None
    seed: int = 0
    dial: float | None = None
    category_penalty: float = 0.0
    category_memory_days: float = 0.0
    max_share: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in (PLACKETT_LUCE, DETERMINISTIC):
            raise InputError(f"policy.kind={self.kind!r} is unknown; use {PLACKETT_LUCE} or {DETERMINISTIC}")
        check_range("policy.slate_size", self.slate_size, least=1)
        check_range("policy.temperature", self.temperature, above=0)
        check_range("policy.exploration_floor", self.exploration_floor, least=0, most=1)
        if self.dial is not None:
            check_range("policy.dial", self.dial, least=0)
        check_range("policy.category_penalty", self.category_penalty, least=0)
        check_range("policy.category_memory_days", self.category_memory_days, least=0)
        if self.max_share is not None:
            check_range("policy.max_share", self.max_share, above=0, most=1)
        check_range("policy.seed", self.seed, least=0, most=2**63 - 1)
        if self.is_deterministic and self.exploration_floor > 0:
            raise InputError(
                f"policy.exploration_floor={self.exploration_floor} explores but policy.kind is "
                f"{DETERMINISTIC}; set it to 0 or use {PLACKETT_LUCE}"
            )
        if self.num_candidates is not None and self.num_candidates < self.slate_size:
            raise InputError(
                f"policy.num_candidates={self.num_candidates} cannot fill "
                f"policy.slate_size={self.slate_size}; raise it or set it to null"
            )

    @property
    def is_deterministic(self) -> bool:
        return self.kind == DETERMINISTIC

    def version(self, *, bundle_fingerprint: str) -> str:
        """Name of the policy: its kind and 12 hex digits of all that fixes its probabilities."""
        parts = [bundle_fingerprint, self.kind, self.slate_size, self.num_candidates]
        if not self.is_deterministic:
            parts += [float(self.temperature), float(self.exploration_floor)]
        if self.dial or self.category_penalty or self.max_share:
            parts += [float(self.dial or 0), float(self.category_penalty), self.max_share]
            parts.append(float(self.category_memory_days))
        digest = hashlib.sha256(repr(parts).encode()).hexdigest()
        return f"{self.kind}-{digest[:12]}"


@dataclass(frozen=True, kw_only=True)
class Slates:
    """What each user is shown. A slot that no candidate was left for has item 0, score nan, propensity nan.

    `propensity_BK` is that of the item in its slot given the slots before; a slate's is its row's product.
    `candidates_hash_B` is the SHA-256 of the user's candidates: ascending item_index as little-endian int32.
    """

    item_BK: np.ndarray  # int32
    score_BK: np.ndarray  # float32
    propensity_BK: np.ndarray  # float64
    candidates_hash_B: tuple[str, ...]
    is_deterministic: bool

    @property
    def mask_BK(self) -> np.ndarray:
        """bool, True where a slot holds an item."""
        return self.item_BK != PAD

    @classmethod
    def joined(cls, parts: Sequence[Slates]) -> Slates:
        """Of one policy, the users of one part after those of another."""
        return cls(
            item_BK=np.concatenate([part.item_BK for part in parts]),
            score_BK=np.concatenate([part.score_BK for part in parts]),
            propensity_BK=np.concatenate([part.propensity_BK for part in parts]),
            candidates_hash_B=tuple(digest for part in parts for digest in part.candidates_hash_B),
            is_deterministic=parts[0].is_deterministic,
        )

    def rows(self, order: np.ndarray) -> Slates:
        """Those of some users."""
        return Slates(
            item_BK=self.item_BK[order],
            score_BK=self.score_BK[order],
            propensity_BK=self.propensity_BK[order],
            candidates_hash_B=tuple(self.candidates_hash_B[row] for row in order),
            is_deterministic=self.is_deterministic,
        )


def draw_slates(
    *,
    scores_BV: np.ndarray,
    user_index_B: np.ndarray,
    config: PolicyConfig,
    occasion: int = 0,
    category_V: np.ndarray | None = None,
    carried_BC: np.ndarray | None = None,
) -> Slates:
    """One slate for each user.

    `scores_BV` is floating point with -inf for every item that must not be shown, padding (column 0)
    included. The draws are keyed by (config.seed, occasion, user_index), so a slate does not depend on the
    batch it is drawn in; pass another `occasion` (a timestamp) each time a user comes back, or the same luck
    returns too. `category_V` (integers, from 1; 0: none) is what `category_penalty` goes by, `carried_BC`
    how many slots of each category are remembered of users (`recsys.policy.memory`; None: nothing). Raises
    InputError where a score is nan or +inf, and where there is a penalty but no category.
    """
    assert scores_BV.shape[0] == len(user_index_B)
    assert not np.isfinite(scores_BV[:, PAD]).any(), "column 0 is padding and must be -inf"
    _check_scores(scores_BV, user_index_B)
    _check_categories(config, category_V)
    rows = max(1, _SCORES_PER_BLOCK // max(1, scores_BV.shape[1]))
    blocks = []
    for start in range(0, max(1, len(user_index_B)), rows):
        users = slice(start, start + rows)
        item_BN, score_BN = top_candidates(scores_BV[users], config.num_candidates)
        penalty = Penalty.of(config.category_penalty, category_V, carried_BC, users)
        blocks.append(_drawn(item_BN, score_BN, user_index_B[users], config, occasion, penalty))
    return Slates.joined(blocks)


def draw_among(
    *,
    item_BN: np.ndarray,
    score_BN: np.ndarray,
    user_index_B: np.ndarray,
    config: PolicyConfig,
    occasion: int = 0,
    category_V: np.ndarray | None = None,
    carried_BC: np.ndarray | None = None,
) -> Slates:
    """The same of candidates that were found already: best first, ties by lower index, -inf where a user has
    fewer.
    """
    _check_scores(score_BN, user_index_B)
    _check_categories(config, category_V)
    penalty = Penalty.of(config.category_penalty, category_V, carried_BC, slice(None))
    return _drawn(item_BN, score_BN.astype(np.float64), user_index_B, config, occasion, penalty)


def slate_propensities(
    *,
    scores_BV: np.ndarray,
    item_BK: np.ndarray,
    config: PolicyConfig,
    category_V: np.ndarray | None = None,
    carried_BC: np.ndarray | None = None,
) -> np.ndarray:
    """float64 (B, K): the propensity this policy gives to each item of given slates, given the slots before.

    0 where the policy would never show the item there; nan in empty slots (item 0) and after a 0 in its row.
    """
    _check_categories(config, category_V)
    item_BN, score_BN = top_candidates(scores_BV, config.num_candidates)

    def pick_given(slot: int, propensity_BN: np.ndarray) -> np.ndarray:
        found_BN = (item_BN == item_BK[:, slot, None]) & (item_BK[:, slot, None] != PAD)
        return np.where(found_BN.any(axis=1), found_BN.argmax(axis=1), -1)

    _, propensity_BK = _fill_slots(
        *(score_BN, item_BN, config, item_BK.shape[1], pick_given),
        Penalty.of(config.category_penalty, category_V, carried_BC, slice(None)),
    )
    missing_BK = np.isnan(propensity_BK) & (item_BK != PAD)
    first_BK = missing_BK & (np.cumsum(missing_BK, axis=1) == 1)
    return np.where(first_BK, 0.0, propensity_BK)


def _drawn(
    item_BN: np.ndarray,
    score_BN: np.ndarray,
    user_index_B: np.ndarray,
    config: PolicyConfig,
    occasion: int,
    penalty: Penalty | None,
) -> Slates:
    uniform_BK = _uniforms(config.seed, occasion, user_index_B, config.slate_size)

    def pick_by_chance(slot: int, propensity_BN: np.ndarray) -> np.ndarray:
        cumulative_BN = np.cumsum(propensity_BN, axis=1)
        total_B = cumulative_BN[:, -1]
        # Strictly below the total, so that rounding cannot run past the last candidate.
        target_B = np.minimum(uniform_BK[:, slot] * total_B, np.nextafter(total_B, 0))
        return np.where(total_B > 0, (cumulative_BN <= target_B[:, None]).sum(axis=1), -1)

    pick_BK, propensity_BK = _fill_slots(
        score_BN, item_BN, config, config.slate_size, pick_by_chance, penalty
    )
    return Slates(
        item_BK=np.where(pick_BK >= 0, np.take_along_axis(item_BN, pick_BK, axis=1), PAD).astype(np.int32),
        score_BK=np.where(pick_BK >= 0, np.take_along_axis(score_BN, pick_BK, axis=1), np.nan).astype(
            np.float32
        ),
        propensity_BK=propensity_BK,
        candidates_hash_B=candidates_hashes(item_BN, score_BN),
        is_deterministic=config.is_deterministic,
    )


def _fill_slots(
    score_BN: np.ndarray,
    item_BN: np.ndarray,
    config: PolicyConfig,
    num_slots: int,
    pick: Callable[[int, np.ndarray], np.ndarray],
    penalty: Penalty | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Walk the slots; `pick(slot, propensity_BN)` names each row's candidate, negative for none.

    Returns the picks (-1 for none) and their propensities (nan for none), both (B, K). A row without a pick
    gets none in the slots after it either.
    """
    num_users, num_candidates = score_BN.shape
    remaining_BN = np.isfinite(score_BN)
    pick_BK = np.full((num_users, num_slots), -1)
    propensity_BK = np.full((num_users, num_slots), np.nan)
    rows_B = np.arange(num_users)
    if penalty is not None:
        score_BN = penalty.before_first(score_BN, item_BN)
    for slot in range(min(num_slots, num_candidates)):
        propensity_BN = _slot_propensities(score_BN, remaining_BN, config)
        pick_B = pick(slot, propensity_BN)
        propensity_B = propensity_BN[rows_B, pick_B]
        picked_B = (pick_B >= 0) & (propensity_B > 0)
        pick_BK[picked_B, slot] = pick_B[picked_B]
        propensity_BK[picked_B, slot] = propensity_B[picked_B]
        if penalty is not None:
            score_BN = penalty.after(score_BN, item_BN, np.where(picked_B, item_BN[rows_B, pick_B], PAD))
        remaining_BN[rows_B[picked_B], pick_B[picked_B]] = False
        remaining_BN[~picked_B] = False
    return pick_BK, propensity_BK


def _slot_propensities(score_BN: np.ndarray, remaining_BN: np.ndarray, config: PolicyConfig) -> np.ndarray:
    """float64 (B, N): each candidate's propensity in the next slot; rows sum to 1, or to 0 with none left."""
    if config.is_deterministic:  # equal scores: the first, which has the lower index
        best_B1 = np.where(remaining_BN, score_BN, -np.inf).argmax(axis=1)[:, None]
        return ((np.arange(score_BN.shape[1]) == best_B1) & remaining_BN).astype(np.float64)
    logit_BN = np.where(remaining_BN, score_BN / config.temperature, -np.inf)
    best_B1 = logit_BN.max(axis=1, keepdims=True)
    weight_BN = np.exp(logit_BN - np.where(np.isfinite(best_B1), best_B1, 0.0))
    # The last cumulative sum, unlike sum(), adds in one order whatever the batch.
    total_B1 = np.maximum(np.cumsum(weight_BN, axis=1)[:, -1:], 1.0)  # the best one weighs 1
    num_remaining_B1 = np.maximum(remaining_BN.sum(axis=1, keepdims=True), 1)
    floor = config.exploration_floor
    return (1 - floor) * weight_BN / total_B1 + floor * remaining_BN / num_remaining_B1


def _check_categories(config: PolicyConfig, category_V: np.ndarray | None) -> None:
    if config.category_penalty > 0 and category_V is None:
        raise InputError(
            f"policy.category_penalty={config.category_penalty} needs categories, which these items lack; "
            "set it to 0"
        )


def _uniforms(seed: int, occasion: int, user_index_B: np.ndarray, num_slots: int) -> np.ndarray:
    """float64 (B, K) in [0, 1): a counter-based stream of its own for each (seed, occasion, user)."""
    uniform_BK = np.empty((len(user_index_B), num_slots))
    counter = np.array([0, occasion, 0, 0], dtype=np.uint64)
    for row, user_index in enumerate(user_index_B):
        stream = np.random.Philox(key=np.array([seed, user_index], dtype=np.uint64), counter=counter)
        uniform_BK[row] = np.random.Generator(stream).random(num_slots)
    return uniform_BK


def _check_scores(scores_BV: np.ndarray, user_index_B: np.ndarray) -> None:
    bad_B = ~(scores_BV < np.inf).all(axis=1)
    if bad_B.any():
        raise InputError(
            f"scores of user_index {user_index_B[bad_B.argmax()]} hold nan or +inf; the model did not train: "
            "look at its loss before serving it"
        )
