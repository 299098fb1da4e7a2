"""NDCG@10 of a bundle user by user, for differences that are paired.

Legend: U users of the tables.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.plain_ranking import Found, Log
from recsys.build import catalogue_at
from recsys.bundle import bundle_folder, load_bundle
from recsys.data.cut_features import CutScaler
from recsys.data.tables import FeatureTables, resolve_tables
from recsys.evaluation.quick import figures_of_users
from recsys.metrics.interval import mean_interval


def newest_tables(folder: Path, dataset: str) -> FeatureTables:
    """Of a folder with features/ and cache/."""
    version = resolve_tables(features_dir=folder / "features", dataset=dataset, version="latest")
    return FeatureTables(tables_dir=version, cache_dir=folder / "cache")


def log_of(tables: FeatureTables) -> Log:
    """Its users as in the tables; items are those that somebody has taken, numbered anew."""
    items, item_E = np.unique(tables.histories.item_index, return_inverse=True)
    return Log(np.asarray(tables.histories.offsets), item_E + 1, len(items))


def user_ndcg(models: Path, name: str, tables: FeatureTables, *, split: str) -> np.ndarray:
    """(U,) of the bundle of that name; nan where nothing is held out, or an item not seen in training."""
    bundle = load_bundle(bundle_folder(models, name))
    found, _ = figures_of_users(
        model=bundle.model,
        catalogue=catalogue_at(tables, split),
        tables=tables,
        split=split,
        scaler=CutScaler(**bundle.scaler),
    )
    ndcg_U = np.full(len(tables.histories.offsets) - 1, np.nan)
    ndcg_U[tables.at_cut(split=split).user_index - 1] = found["all"]
    return ndcg_U


def beside(own_U: np.ndarray, plain: Found) -> dict[str, Any]:
    """Both at the test over the users whom the model is judged on, and what it is above."""
    both_U = np.isfinite(own_U)
    return {
        "users": int(both_U.sum()),
        "ours": asdict(mean_interval(own_U[both_U])),
        "plain SASRec": asdict(mean_interval(plain.test_U[both_U])),
        "plain SASRec, best epoch on validation": plain.epoch,
        "plain SASRec, validation": plain.validation,
        "ours above plain SASRec": asdict(mean_interval((own_U - plain.test_U)[both_U])),
    }
