"""Expected and real value of groups of users: by cohort (month of the first event) and by profile field.

Groups of fewer people than a report may show are put together as `others`; where even those are too few,
they and the next smallest group carry no figures at all.

Legend: U users, H horizons, J hazard bins, S draws.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.baselines.interactions import Interactions
from recsys.data.cut_tables import CutTable
from recsys.data.tables import FeatureTables
from recsys.evaluation.ranking import OWN_MODEL, Figure
from recsys.metrics.interval import bootstrap, mean_interval
from recsys.metrics.predictive import is_covered, pit_of_draws
from recsys.metrics.value import normalised_gini, total_bias
from recsys.report.suppress import MIN_PEOPLE, reasons_to_hide
from recsys.schema import Table

COHORT = "cohort"
UNKNOWN, OTHERS = "unknown", "others"
_MAX_GROUPS = 24  # of one kind; the smaller ones are put together


@dataclass(frozen=True, kw_only=True)
class Assessed:
    """What was said of the users of a cut, and what came true; each None without that head.

    known_UH: whose spend was watched to the end of which horizon, of users with a history.
    """

    table: CutTable
    known_UH: np.ndarray
    spend_UH: np.ndarray | None
    return_UJ: np.ndarray | None
    spend_draws: np.ndarray | None
    horizons_days: Sequence[int]
    bin_ends_days: Sequence[int]


@dataclass(frozen=True)
class UserGroups:
    """Labels of the users of a cut by what divides them, each of shape (U,): {"cohort": ["2011-03", ..]}."""

    labels: dict[str, np.ndarray]


def user_groups(tables: FeatureTables, table: CutTable, interactions: Interactions) -> UserGroups:
    """Cohorts in UTC months, and every profile field as it was known at the cut."""
    months_U = np.full(len(table.user_index), UNKNOWN, dtype=object)
    has_events_U = np.diff(interactions.offsets) > 0
    first = interactions.timestamp[interactions.offsets[:-1][has_events_U]]
    months_U[has_events_U] = first.astype("datetime64[s]").astype("datetime64[M]").astype(str)
    labels = {COHORT: months_U}
    values = json.loads((tables.dir / Table.VOCABULARIES).read_text(encoding="utf-8"))["profile_fields"]
    for f, profile_field in enumerate(tables.metadata["profile_fields"]):
        name = profile_field["name"]
        known = np.array([UNKNOWN, *map(str, values[name])], dtype=object)
        labels[name] = known[table.profile[:, f]]
    return UserGroups(labels)


def group_figures(assessed: Assessed, groups: UserGroups) -> tuple[dict[str, Figure], list[dict[str, Any]]]:
    """({`groups/<days>d/<by>/<group>/<metric>/aurm`}, rows of {by, group, horizon_days, n, hidden, figures}).

    At the longest horizon with known outcomes: mean expected and real spend (money), bias, Gini, coverage of
    the central 90 %, and the expected and real share of users that came back.
    """
    known_UH, horizons_days = assessed.known_UH, assessed.horizons_days
    watched = np.flatnonzero(known_UH.any(axis=0))
    if not len(watched):
        return {}, []
    h = max(watched.tolist(), key=lambda h: horizons_days[h])
    rows: list[dict[str, Any]] = []
    for by, labels_U in groups.labels.items():
        members = _members(labels_U, known_UH[:, h])
        part: list[dict[str, Any]] = [
            {"by": by, "group": group, "horizon_days": horizons_days[h], "n": len(at)}
            for group, at in members
        ]
        for row, why, (_, at) in zip(part, reasons_to_hide(part), members, strict=True):
            row |= {"hidden": why, "figures": {} if why else _figures(assessed, at, h)}
        rows += part
    named = {
        f"{_place(row)}/{metric}/{OWN_MODEL}": {**figure, "n": row["n"]}
        for row in rows
        for metric, figure in row["figures"].items()
    }
    return named, rows


def _place(row: dict[str, Any]) -> str:
    return f"groups/{row['horizon_days']}d/{row['by']}/{row['group'].replace('/', ' ')}"


def _figures(assessed: Assessed, at: np.ndarray, h: int) -> dict[str, Figure]:
    """Of the users in the rows `at`."""
    found, table, days = {}, assessed.table, assessed.horizons_days[h]
    if assessed.spend_UH is not None:
        actual_U, own_U = table.spend[at, h], assessed.spend_UH[at, h]
        found = {
            "expected_mean": mean_interval(own_U),
            "actual_mean": mean_interval(actual_U),
            "total_bias": bootstrap(total_bias, actual_U, own_U),
            "gini": bootstrap(normalised_gini, actual_U, own_U),
        }
        if assessed.spend_draws is not None:
            pit_U = pit_of_draws(actual_U, assessed.spend_draws[at, h])
            found["coverage90"] = mean_interval(is_covered(pit_U, 0.9))
    if assessed.return_UJ is not None and days in assessed.bin_ends_days:
        chance_U = assessed.return_UJ[at, list(assessed.bin_ends_days).index(days)]
        found["expected_return"] = mean_interval(chance_U)
        found["actual_return"] = mean_interval((table.num_active_days[at, h] > 0).astype(np.float64))
    return {metric: interval.as_dict() for metric, interval in found.items()}


def curves(assessed: Assessed, users_U: np.ndarray) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """(mean spend by each horizon, share seen again by the end of each bin) of some users, where watched."""
    table, spend_UH, return_UJ = assessed.table, assessed.spend_UH, assessed.return_UJ
    spend: list[dict[str, float]] = []
    for h, days in enumerate(assessed.horizons_days):
        at = users_U & assessed.known_UH[:, h]
        if spend_UH is not None and at.any():
            predicted, actual = float(spend_UH[at, h].mean()), float(table.spend[at, h].mean())
            row = {"horizon_days": days, "predicted_mean": predicted, "actual_mean": actual}
            spend.append({**row, "n": int(at.sum())})
    returns: list[dict[str, float]] = []
    for j, day in enumerate(assessed.bin_ends_days):
        at = users_U & (table.prefix_length > 0) & (table.observed_days >= day - 1e-6)
        if return_UJ is not None and at.any():
            actual = float((table.next_active_days[at] <= day).mean())
            predicted = float(return_UJ[at, j].mean())
            returns.append({"day": day, "predicted": predicted, "actual": actual, "n": int(at.sum())})
    return spend, returns


def cohort_curves(assessed: Assessed, groups: UserGroups, users_U: np.ndarray) -> list[dict[str, Any]]:
    """{cohort, n, spend, retention} of each cohort that may be shown, the two as `curves` gives them."""
    members = _members(groups.labels[COHORT], users_U)
    hidden = reasons_to_hide([{"n": len(at)} for _, at in members])
    found = []
    for (cohort, at), why in zip(members, hidden, strict=True):
        if not why:
            of_cohort_U = np.isin(np.arange(len(users_U)), at)
            spend, retention = curves(assessed, of_cohort_U)
            found.append({"cohort": cohort, "n": len(at), "spend": spend, "retention": retention})
    return found


def _members(labels_U: np.ndarray, users_U: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """(group, its rows) in order of the label; small groups, and the smallest of very many, as `others`."""
    at = np.flatnonzero(users_U)
    names, which, counts = np.unique(labels_U[at].astype(str), return_inverse=True, return_counts=True)
    kept = np.argsort(-counts, kind="stable")[:_MAX_GROUPS]
    kept = np.sort(kept[counts[kept] >= MIN_PEOPLE])
    members = [(str(names[g]), at[which == g]) for g in kept]
    others = at[~np.isin(which, kept)]
    return [*members, (OTHERS, others)] if len(others) else members
