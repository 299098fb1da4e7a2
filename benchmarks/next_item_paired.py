"""The model as shipped beside a plain SASRec, user by user: `python -m benchmarks.next_item_paired`

After `benchmarks.next_item`, whose runs lie in --folder. SASRec (width 64, 2 blocks, each user's newest 200
events, full cross-entropy) learns from the same tables and is taken at the epoch that validates best; both
rank all items at the test, seen ones left out. Writes beside-plain-SEED.json to --results and ends with one
line of JSON: the difference in NDCG@10 paired by user, with its bootstrap interval.

Legend: U users.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.next_item import RESULTS
from benchmarks.plain_ranking import Log, trained
from benchmarks.train_workloads import SIZES
from recsys.build import catalogue_at
from recsys.bundle import bundle_folder, load_bundle
from recsys.data.cut_features import CutScaler
from recsys.data.tables import FeatureTables, resolve_tables
from recsys.evaluation.quick import figures_of_users
from recsys.metrics.interval import mean_interval

DATASET = "ml_1m"


def own_ndcg_U(folder: Path, tables: FeatureTables, name: str) -> np.ndarray:
    """NDCG@10 at the test of each user of the tables; nan where the target had not been seen in training."""
    bundle = load_bundle(bundle_folder(folder / "models" / DATASET, name))
    found, _ = figures_of_users(
        model=bundle.model,
        catalogue=catalogue_at(tables, "test"),
        tables=tables,
        split="test",
        scaler=CutScaler(**bundle.scaler),
    )
    ndcg_U = np.full(len(tables.histories.offsets) - 1, np.nan)
    ndcg_U[tables.at_cut(split="test").user_index - 1] = found["all"]
    return ndcg_U


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--folder", type=Path, default=Path("outputs/next_item"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--patience", type=int, default=10)
    given = parser.parse_args()
    features = given.folder / "features"
    tables = FeatureTables(
        tables_dir=resolve_tables(features_dir=features, dataset=DATASET, version="latest"),
        cache_dir=given.folder / "cache",
    )
    flat = tables.histories
    log = Log(np.asarray(flat.offsets), np.array(flat.item_index), tables.num_items)
    result: dict[str, Any] = {"seeds": given.seeds}
    for seed in given.seeds:
        own_U = own_ndcg_U(given.folder, tables, f"as-shipped-{seed}")
        plain = trained(log, SIZES[DATASET], seed=seed, epochs=given.epochs, patience=given.patience)
        both_U = np.isfinite(own_U)
        run = {
            "users": int(both_U.sum()),
            "ours": asdict(mean_interval(own_U[both_U])),
            "plain SASRec": asdict(mean_interval(plain.test_U[both_U])),
            "plain SASRec, best epoch on validation": plain.epoch,
            "plain SASRec, validation": plain.validation,
            "ours above plain SASRec": asdict(mean_interval((own_U - plain.test_U)[both_U])),
        }
        (given.results / f"beside-plain-{seed}.json").write_text(json.dumps(run, indent=1) + "\n")
        result[str(seed)] = run
    print(json.dumps(result))


if __name__ == "__main__":
    main()
