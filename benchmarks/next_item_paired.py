"""The model as shipped beside a plain SASRec, user by user: `python -m benchmarks.next_item_paired`

After `benchmarks.next_item`, whose runs lie in --folder. SASRec (width 64, 2 blocks, each user's newest 200
events, full cross-entropy) learns from the same tables and is taken at the epoch that validates best; both
rank all items at the test, seen ones left out. Writes beside-plain-SEED.json to --results and ends with one
line of JSON: the difference in NDCG@10 paired by user, with its bootstrap interval.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.next_item import RESULTS
from benchmarks.plain_ranking import trained
from benchmarks.train_workloads import SIZES
from benchmarks.user_ndcg import beside, log_of, newest_tables, user_ndcg

DATASET = "ml_1m"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--folder", type=Path, default=Path("outputs/next_item"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--patience", type=int, default=10)
    given = parser.parse_args()
    tables = newest_tables(given.folder, DATASET)
    log = log_of(tables)
    result: dict[str, Any] = {"seeds": given.seeds}
    for seed in given.seeds:
        own_U = user_ndcg(given.folder / "models" / DATASET, f"as-shipped-{seed}", tables, split="test")
        plain = trained(log, SIZES[DATASET], seed=seed, epochs=given.epochs, patience=given.patience)
        run = beside(own_U, plain)
        (given.results / f"beside-plain-{seed}.json").write_text(json.dumps(run, indent=1) + "\n")
        result[str(seed)] = run
    print(json.dumps(result))


if __name__ == "__main__":
    main()
