"""The same defaults where histories are short and items many: `python -m benchmarks.short_histories`

MovieLens-1M with four items in ten left and each user's history cut to its newest few (median 6), the last
item left out as in `benchmarks.next_item`. `train.py experiment=next_item` learns it as it is shipped; SASRec
under full cross-entropy (`benchmarks/plain_ranking.py`), of the epoch that validates best, learns from the
same tables and stands beside it, paired by user. Figures go to --results. Ends with one line of JSON.

Legend: U users, E events.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import OmegaConf

from benchmarks.next_item import ROOT, Bench
from benchmarks.plain_ranking import trained
from benchmarks.train_workloads import ML_1M, Size
from benchmarks.user_ndcg import beside, log_of, newest_tables, user_ndcg

NAME = "ml_1m_short"
ITEM_SHARE, MEDIAN, SPREAD, LEAST = 0.4, 6.0, 0.7, 4
PLAIN_EPOCHS = 60
RESULTS = ROOT / "benchmarks" / "results" / NAME


def write_log(folder: Path, shared: Path, *, seed: int) -> Path:
    """The thinned log and its data set's YAML; the folder for --config-dir."""
    table = pq.read_table(shared / ML_1M, columns=["sas_user", "pos", "user_id", "movie_id"])
    table = table.sort_by([("sas_user", "ascending"), ("pos", "ascending")])
    rng = np.random.default_rng(seed)
    movies = np.unique(table["movie_id"])
    kept = rng.choice(movies, round(ITEM_SHARE * len(movies)), replace=False)
    table = table.filter(np.isin(table["movie_id"], kept))
    user_E, place_E, length_U = _places(table)
    most_U = np.maximum(rng.lognormal(np.log(MEDIAN), SPREAD, len(length_U)).round(), LEAST)
    newest_E = length_U[user_E] - place_E <= most_U[user_E]
    table = table.filter(newest_E & (length_U[user_E] >= LEAST))
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(None), folder / "log.parquet")
    settings: Any = OmegaConf.load(ROOT / "conf" / "dataset" / "ml_1m.yaml")
    settings.name, settings.events.path = NAME, str((folder / "log.parquet").resolve())
    settings.quality.min_rows, settings.quality.min_items = 10_000, 500
    (folder / "conf" / "dataset").mkdir(parents=True, exist_ok=True)
    OmegaConf.save(settings, folder / "conf" / "dataset" / f"{NAME}.yaml")
    return folder / "conf"


def _places(table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a table sorted by user and time: user (E,), place within the user (E,), length (U,)."""
    user_E, length_U = np.unique(table["sas_user"], return_inverse=True, return_counts=True)[1:]
    start_U = np.cumsum(length_U) - length_U
    return user_E, np.arange(len(user_E)) - start_U[user_E], length_U


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("outputs/short_histories"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("overrides", nargs="*", help="settings of train.py, for every run")
    given = parser.parse_args()
    shared = Path(os.environ.get("RECSYS_SHARED_DATA", ROOT.parent / "shared" / "data"))
    folder = given.folder.resolve()
    config = write_log(folder / "log", shared, seed=0)
    bench = Bench(folder, tuple(given.overrides), NAME, ("--config-dir", str(config)))
    bench.tables()
    tables = newest_tables(folder, NAME)
    log = log_of(tables)
    result: dict[str, Any] = {
        "users": len(log.offsets_U) - 1,
        "items": log.num_items,
        "events": len(log.item_E),
        "median_length": float(np.median(np.diff(log.offsets_U))),
        "runs": [],
    }
    for seed in given.seeds:
        name = f"short-{seed}"
        run = bench.trained(name, seed, ())
        plain = trained(log, Size(data=NAME), seed=seed, epochs=PLAIN_EPOCHS, patience=PLAIN_EPOCHS)
        paired = beside(user_ndcg(folder / "models" / NAME, name, tables, split="test"), plain)
        result["runs"].append(run | {"test": paired})
        epochs = [f"{epoch['ndcg@10']:.4f}" for epoch in run["epochs"]]
        print(f"seed {seed}: validation by epoch {' '.join(epochs)}; {paired}", flush=True)
    for name in ("ours", "plain SASRec", "ours above plain SASRec"):
        values = [run["test"][name]["value"] for run in result["runs"]]
        result[f"{name}, mean"] = round(float(np.mean(values)), 4)
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "seeds.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
