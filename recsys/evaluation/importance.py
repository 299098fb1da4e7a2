"""How much a model rests on each feature: one at a time is dealt out anew, and what is lost counts.

Permutation importance (Breiman 2001, section 10) of a trained model: a user feature goes to other users, an
item feature to other items, so that its values and how often each occurs stay and only their owners change.
The model is not trained again: a feature that repeats another one can look weaker here than it is.

Legend: U users, H horizons, V items, P permutations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from recsys.batch import Catalogue
from recsys.bundle import Bundle
from recsys.bundle_fit import catalogue_for, check_fit, check_unseen
from recsys.data.cut_features import CutScaler
from recsys.data.cut_tables import CutTable
from recsys.data.tables import FeatureTables
from recsys.evaluation.quick import chunk_ndcg
from recsys.evaluation.scoring import score_users
from recsys.evaluation.value import watched_horizon
from recsys.evaluation.views import ranking_views, seen_and_targets
from recsys.metrics.interval import bootstrap, mean_interval
from recsys.metrics.statistic import Statistic
from recsys.metrics.value import normalised_gini
from recsys.schema import UserNumeric
from recsys.settings import check_range

NDCG, GINI = "ndcg@10", "gini"
PROFILE, ACTIVITY = "profile", "activity"  # kinds of a feature: columns of CutTable
FIELD, NUMBER, WORDS = "field", "number", "words"  # and of the catalogue
_OF_ITEMS = {FIELD: "categorical_VF", NUMBER: "numeric_VN", WORDS: "tokens_VT"}
TOKENS = "tokens"  # all words of a text and the item table's tokens go together


@dataclass(frozen=True, kw_only=True)
class ImportanceConfig:
    """`num_users`: of the cut, at most, evenly spaced; `seed`: of the permutations."""

    num_users: int = 2000
    num_permutations: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_users", "num_permutations"):
            check_range(f"importance.{name}", getattr(self, name), least=1)


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A column of its kind; `column` None: all of them together."""

    name: str
    kind: str
    column: int | None

    @property
    def can_be_dropped(self) -> bool:
        """Whether `features.drop` takes the name; words go as `text` or by the name of their tokens."""
        return self.kind not in (ACTIVITY, WORDS)


@dataclass(frozen=True)
class Judged:
    """What the model did for each user of a cut table.

    ndcg_U: nan without a target; spend_U: expected money, None where no value is assessed.
    """

    ndcg_U: np.ndarray
    spend_U: np.ndarray | None = None


Judge = Callable[[CutTable, Catalogue], Judged]


def features_of(metadata: Mapping[str, Any], *, has_value_heads: bool) -> list[Feature]:
    """By their names in the metadata."""
    found = [
        *_named(PROFILE, [field["name"] for field in metadata["profile_fields"]]),
        *_named(FIELD, [field["name"] for field in metadata["item_fields"]]),
        *_named(NUMBER, metadata["item_numeric"]),
    ]
    if metadata["num_tokens"]:
        found.append(Feature(name=TOKENS, kind=WORDS, column=None))
    return found + (_named(ACTIVITY, UserNumeric.ALL) if has_value_heads else [])


def permuted(
    feature: Feature, table: CutTable, catalogue: Catalogue, rng: np.random.Generator
) -> tuple[CutTable, Catalogue]:
    """Both, with the feature dealt out anew among users with a history, or among items (not to padding)."""
    column = slice(None) if feature.column is None else slice(feature.column, feature.column + 1)
    if feature.kind in (PROFILE, ACTIVITY):
        owners = np.flatnonzero(table.prefix_length > 0)
        values = np.array(getattr(table, feature.kind))
        values[owners, column] = values[rng.permutation(owners), column]
        return replace(table, **{feature.kind: values}), catalogue  # type: ignore[arg-type]
    owners = np.flatnonzero(catalogue.item_V.numpy() > 0)
    name = _OF_ITEMS[feature.kind]
    dealt = getattr(catalogue, name).clone()
    dealt[torch.from_numpy(owners), column] = dealt[torch.from_numpy(rng.permutation(owners)), column]
    return table, catalogue._replace(**{name: dealt})


def importances(
    judge: Judge,
    features: Sequence[Feature],
    *,
    table: CutTable,
    catalogue: Catalogue,
    spend_U: np.ndarray | None,
    config: ImportanceConfig,
) -> dict[str, Any]:
    """What the model loses by each feature, the greatest loss first.

    `spend_U`: actual money of each user, nan where it was not watched; None: value is not judged.
    """
    base = judge(table, catalogue)
    rows = []
    for number, feature in enumerate(features):
        rngs = [np.random.default_rng((config.seed, number, p)) for p in range(config.num_permutations)]
        without = [judge(*permuted(feature, table, catalogue, rng)) for rng in rngs]
        rows.append(_row(feature, base, without, spend_U))
    whole = {NDCG: _finite_mean(base.ndcg_U), GINI: _gini(base, spend_U)}
    rows.sort(key=lambda row: _share_lost(row, whole), reverse=True)
    noise = [row["name"] for row in rows if row["only_noise"]]
    return {
        "whole": whole,
        "features": rows,
        "only_noise": noise,
        "candidates_for_drop": [row["name"] for row in rows if row["only_noise"] and row["can_be_dropped"]],
        "num_users": len(table.user_index),
    }


def bundle_importances(
    *, bundle: Bundle, tables: FeatureTables, split: str, config: ImportanceConfig
) -> dict[str, Any]:
    """Of a bundle at a cut. InputError where it does not fit the tables or has learned past the cut."""
    check_fit(bundle, tables)
    check_unseen(bundle, tables, split)
    table = tables.at_cut(split=split).thinned(config.num_users)
    horizon = watched_horizon(table, tables.horizons_days) if tables.has_value else None
    heads = bundle.model.value_heads
    spend_U = None
    if horizon is not None and heads is not None and heads.config.has_value:
        spend_U = np.where(table.prefix_length > 0, table.spend[:, horizon], np.nan)
    found = importances(
        _judge_of(bundle, tables, table, split, horizon if spend_U is not None else None),
        features_of(tables.metadata, has_value_heads=spend_U is not None),
        table=table,
        catalogue=catalogue_for(bundle, tables, split),
        spend_U=spend_U,
        config=config,
    )
    days = tables.horizons_days[horizon] if spend_U is not None and horizon is not None else None
    about = {"dataset": tables.metadata["dataset"], "table_version": tables.version, "scored_at": split}
    return {**about, "horizon_days": days, **asdict(config), **found}


def importance_lines(found: Mapping[str, Any]) -> list[str]:
    """The ranking for a terminal, and what to do about it."""
    lines = [f"{'feature':<18} {'of':<9} {'lost ' + NDCG:<27} lost gini of spend"]
    for row in found["features"]:
        told = [_interval_text(row[measure]) for measure in (NDCG, GINI)]
        lines.append(f"{row['name']:<18} {row['kind']:<9} {told[0]:<27} {told[1]}".rstrip())
    if found["only_noise"]:
        lines.append(f"adds only noise here: {', '.join(found['only_noise'])}")
    if found["candidates_for_drop"]:
        names = ", ".join(found["candidates_for_drop"])
        lines.append(
            f"candidates for the data set's settings, to be trained without: features.drop: [{names}]"
        )
    return lines


def _judge_of(
    bundle: Bundle, tables: FeatureTables, table: CutTable, split: str, horizon: int | None
) -> Judge:
    items = tables.items(split)
    seen, _ = seen_and_targets(tables, table)
    views = ranking_views(tables, table, items, known=items.in_training)[:1]
    scaler = CutScaler(**bundle.scaler)

    def judge(table: CutTable, catalogue: Catalogue) -> Judged:
        ndcg_U = np.full(len(table.user_index), np.nan)
        spend_U = None if horizon is None else np.full(len(table.user_index), np.nan)
        for chunk in score_users(
            model=bundle.model,
            catalogue=catalogue,
            tables=tables,
            table=table,
            scaler=scaler,
            calibration=bundle.calibration,
        ):
            ndcg_U[chunk.rows] = chunk_ndcg(chunk, views, seen)[:, 0]
            if spend_U is not None and chunk.spend_BH is not None:
                spend_U[chunk.rows] = chunk.spend_BH[:, horizon]
        return Judged(ndcg_U, spend_U)

    return judge


def _named(kind: str, names: Sequence[str]) -> list[Feature]:
    return [Feature(name=name, kind=kind, column=column) for column, name in enumerate(names)]


def _row(
    feature: Feature, base: Judged, without: Sequence[Judged], spend_U: np.ndarray | None
) -> dict[str, Any]:
    """Losses with intervals over users; only noise where no interval lies above 0."""
    lost_U = base.ndcg_U - np.mean([judged.ndcg_U for judged in without], axis=0)
    lost = {NDCG: mean_interval(lost_U).as_dict(), GINI: None}
    if spend_U is not None and base.spend_U is not None:
        known_U = np.isfinite(spend_U)
        others = [judged.spend_U[known_U] for judged in without if judged.spend_U is not None]
        interval = bootstrap(_GINI_LOST, spend_U[known_U], base.spend_U[known_U], *others)
        lost[GINI] = interval.as_dict()
    above = [one["low"] is not None and one["low"] > 0 for one in lost.values() if one is not None]
    about = {"name": feature.name, "kind": feature.kind, "can_be_dropped": feature.can_be_dropped}
    return {**about, **lost, "only_noise": not any(above)}


@Statistic
def _GINI_LOST(*arrays: np.ndarray) -> np.ndarray:
    """Gini by the model's own estimates, less the mean of it by those without a feature."""
    actual_U, own_U, *others, weight_RU = arrays
    lost = [normalised_gini.resampled(actual_U, other_U, weight_RU=weight_RU) for other_U in others]
    return normalised_gini.resampled(actual_U, own_U, weight_RU=weight_RU) - np.mean(lost, axis=0)


def _gini(base: Judged, spend_U: np.ndarray | None) -> float | None:
    if spend_U is None or base.spend_U is None:
        return None
    known_U = np.isfinite(spend_U)
    gini = normalised_gini(spend_U[known_U], base.spend_U[known_U])
    return float(gini) if np.isfinite(gini) else None


def _finite_mean(values_U: np.ndarray) -> float | None:
    finite_U = values_U[np.isfinite(values_U)]
    return float(finite_U.mean()) if len(finite_U) else None


def _share_lost(row: Mapping[str, Any], whole: Mapping[str, float | None]) -> float:
    """The greater of the shares of both figures that the feature carries."""
    parts = [(row[measure], whole[measure]) for measure in (NDCG, GINI)]
    return max(
        (lost["value"] / of for lost, of in parts if lost and lost["value"] is not None and of), default=0.0
    )


def _interval_text(lost: Mapping[str, float | None] | None) -> str:
    if lost is None or lost["value"] is None:
        return "-"
    low, high = lost["low"] or 0.0, lost["high"] or 0.0
    return f"{lost['value']:+.4f} [{low:+.4f}, {high:+.4f}]"
