"""The challengers that stand beside the value heads in every table, fitted on what was known at the cut.

Legend: U users, K (user, cut) pairs, H horizons.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from recsys.baselines.boosted_trees import BoostedTrees, WatchedCuts
from recsys.baselines.interactions import Interactions
from recsys.baselines.value import BgNbdGammaGamma, BgNbdPurchases, PastSpend
from recsys.data.cut_tables import CutTable
from recsys.schema import SECONDS_PER_DAY, InputError, UserNumeric


@dataclass
class Challengers:
    """By name, nan where a horizon is beyond one; notes: which are left out, and why.

    by_rank (U, H): what to order users by; in_money (U, H): expected net spend; returns (U, H): probability
    of an event within the horizon; purchase (U,): of a purchase within the first.
    """

    by_rank: dict[str, np.ndarray] = field(default_factory=dict)
    in_money: dict[str, np.ndarray] = field(default_factory=dict)
    returns: dict[str, np.ndarray] = field(default_factory=dict)
    purchase: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def watched_horizons(table: CutTable, horizons_days: list[int], *, boundary: int | None = None) -> np.ndarray:
    """(U, H) whether the spend of each horizon was known to its end, by `boundary` where one is given."""
    observed_days = table.observed_days
    if boundary is not None:
        observed_days = np.minimum(observed_days, (boundary - table.cut) / SECONDS_PER_DAY)
    watched: np.ndarray = np.isfinite(table.spend) & (
        np.asarray(horizons_days) <= observed_days[:, None] + 1e-6
    )
    return watched


def watched_cuts(cuts: list[CutTable], horizons_days: list[int], *, boundary: int) -> WatchedCuts:
    """Users with a history at cuts before `boundary`, with what they did by then; the rest is nan."""
    num_horizons = len(horizons_days)
    num_activity = cuts[0].activity.shape[1] if cuts else len(UserNumeric.ALL)
    nothing = tuple(np.zeros((0, width)) for width in (num_activity, *3 * (num_horizons,)))
    parts = [nothing, *(_watched(table, horizons_days, boundary) for table in cuts)]
    return WatchedCuts(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _watched(table: CutTable, horizons_days: list[int], boundary: int) -> tuple[np.ndarray, ...]:
    has = table.prefix_length > 0
    known_KH = watched_horizons(table, horizons_days, boundary=boundary)[has]
    happened = (table.spend[has], table.num_active_days[has] > 0, table.num_purchases[has] > 0)
    return (table.activity[has], *(np.where(known_KH, column, np.nan) for column in happened))


def challengers(
    *,
    interactions: Interactions,
    past: WatchedCuts,
    activity_UA: np.ndarray,
    horizons_days: list[int],
    has_value: bool,
) -> Challengers:
    """Each fitted where its data is there; one that has none is left out with a note."""
    found = Challengers()
    bg_nbd = _bg_nbd(found, interactions, horizons_days)
    if has_value:
        if bg_nbd is not None:
            try:
                money = BgNbdGammaGamma(purchases=bg_nbd)
                found.by_rank[money.name] = found.in_money[money.name] = money.spend(horizons_days)
            except InputError as error:
                found.notes.append(f"value stands without Gamma-Gamma: {_reason(error)}")
        last = PastSpend(interactions=interactions)
        found.by_rank[last.name] = np.repeat(last.score()[:, None], len(horizons_days), axis=1)
        found.in_money[last.name] = last.spend(horizons_days)
    decay_UH = None if bg_nbd is None else bg_nbd.expected_purchases(horizons_days)
    try:
        trees = BoostedTrees(past=past, activity_UA=activity_UA, decay_UH=decay_UH)
    except InputError as error:
        found.notes.append(f"retention and value stand without boosted trees: {_reason(error)}")
        return found
    found.returns[trees.name] = trees.chance_of_return()
    found.purchase[trees.name] = trees.chance_of_purchase()
    if has_value:
        found.by_rank[trees.name] = found.in_money[trees.name] = trees.spend()
    return found


def _bg_nbd(
    found: Challengers, interactions: Interactions, horizons_days: list[int]
) -> BgNbdPurchases | None:
    try:
        bg_nbd = BgNbdPurchases(interactions=interactions)
    except InputError as error:
        found.notes.append(f"retention and value stand without BG/NBD: {_reason(error)}")
        return None
    chance_UH = bg_nbd.probability_of_purchase(horizons_days)
    found.returns[bg_nbd.name], found.purchase[bg_nbd.name] = chance_UH, chance_UH[:, 0]
    return bg_nbd


def _reason(error: InputError) -> str:
    return str(error).split(";")[0]
