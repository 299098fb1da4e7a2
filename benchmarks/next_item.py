"""How well the next item is told where order is all there is: `python -m benchmarks.next_item`

MovieLens-1M as the SASRec benchmark cuts it, leave-one-out: the last item of each user is the test, the one
before validates and is input at the test, never trained on; all 3,416 items are ranked, seen ones filtered,
no request time. Every run is `train.py experiment=next_item`, then `recsys evaluate split=test`; one that was
cut off goes on from its last checkpoint, one that is done is not run again. `--variants` changes one setting
at a time, judged on validation. Logs go to --results. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recsys.parallel.record import record_of

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "ml_1m"
PUBLISHED = {  # HR@10, NDCG@10 on this very file: README of antklen/sasrec-bert4rec-recsys23
    "SASRec, full cross-entropy": (0.3152, 0.1821),
    "SASRec, 3,000 negatives": (0.3159, 0.1857),
    "gSASRec": (0.3003, 0.1726),
}
VARIANTS: dict[str, tuple[str, ...]] = {
    "as shipped": (),
    "learned positions": ("model.positions=learned",),
    "cross-attention": ("model.cross_attention=true",),
    "2 blocks": ("model.num_blocks=2",),
    "6 blocks": ("model.num_blocks=6",),
    "width 64": ("model.width=64", "model.score_width=64", "model.num_heads=2"),
    "dropout 0.1": ("model.dropout=0.1",),
    "dropout 0.3": ("model.dropout=0.3",),
    "no dropout of user vectors": ("model.user_dropout=0",),
    "3,000 negatives": ("data.samples.num_negatives=3000",),
    "ids dropped": ("model.id_dropout=0.1",),
}
FIGURES = ("hr@10", "ndcg@10")


@dataclass(frozen=True)
class Bench:
    """Where runs lie, and what is said to every one of them."""

    folder: Path
    overrides: tuple[str, ...] = ()
    dataset: str = "ml_1m"
    config: tuple[str, ...] = ()  # what every command is told to find the data set

    def tables(self) -> None:
        if not (self.folder / "features" / self.dataset / "latest").exists():
            dataset = (*self.config, f"dataset={self.dataset}", "allow_demo_key=true")
            self._run("-m", "spark_jobs", *dataset, *self._places("feedback"))

    def trained(self, name: str, seed: int, settings: tuple[str, ...]) -> dict[str, Any]:
        """Figures at validation, epoch by epoch and at the end, and the minutes that training took."""
        output = self.folder / "runs" / name
        said = [*settings, *self.overrides]
        done = output / "done.json"
        if not (done.is_file() and json.loads(done.read_text())["settings"] == said):
            self._run(
                *("train.py", *self.config, "experiment=next_item", f"dataset={self.dataset}"),
                *(f"name={name}", f"seed={seed}", "resume=auto", *said),
                *self._places("models", "cache"),
                f"output_dir={output}",
                *("logger.wandb=null", "~callbacks.progress", "+trainer.enable_progress_bar=false"),
            )
            done.write_text(json.dumps({"settings": said, "threads": torch.get_num_threads()}))
        epochs = epochs_of(output)
        return {
            "seed": seed,
            "settings": said,
            "ran": how_it_ran(output),
            "training_minutes": round(sum(epoch["seconds"] for epoch in epochs) / 60, 1),
            "epochs": epochs,
            "validation": figures_of(output),
        }

    def tested(self, name: str) -> dict[str, Any]:
        """Figures of the test items, with their intervals over users."""
        output = self.folder / "tests" / name
        if not (output / "metrics.json").is_file():
            self._run(
                *("-m", "recsys", "evaluate", *self.config, f"dataset={self.dataset}"),
                *(f"bundle={name}", "split=test"),
                *self._places("models", "cache"),
                f"output_dir={output}",
            )
        return figures_of(output)

    def _places(self, *more: str) -> list[str]:
        return [f"{what}_dir={self.folder / what}" for what in ("features", *more)]

    def _run(self, *arguments: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True, stdout=sys.stderr)


def how_it_ran(output: Path) -> dict[str, Any]:
    """Commit, precision, threads (None: not noted then) and the hour that a run ended, by what it left."""
    protocol = json.loads((output / "metrics.json").read_text())["protocol"]
    newest = max((output / "checkpoints").glob("step-*.ckpt"), key=lambda path: path.stat().st_mtime)
    ended = datetime.fromtimestamp(newest.stat().st_mtime, UTC)
    return {
        "git_commit": protocol["git_commit"],
        "precision": record_of(newest)["settings"]["trainer.precision"],
        "threads": json.loads((output / "done.json").read_text()).get("threads"),
        "ended": ended.isoformat(timespec="minutes"),
    }


def figures_of(output: Path) -> dict[str, Any]:
    """HR@10 and NDCG@10 over all items, each with its interval, of the folder of a run; of a test also what
    its NDCG@10 is above EASE's, paired by user.
    """
    figures = json.loads((output / "metrics.json").read_text())["figures"]
    found = {name: figures[f"ranking/all/{name}/aurm"] for name in FIGURES}
    paired = figures.get("ranking/all/ndcg@10/aurm_minus_ease")
    return found | ({"ndcg@10 above EASE's": paired} if paired else {})


def epochs_of(output: Path) -> list[dict[str, float]]:
    """Seconds and NDCG@10 on validation of every epoch."""
    rows: list[dict[str, float]] = []
    for path in sorted(output.rglob("metrics.csv")):
        with path.open() as lines:
            for row in csv.DictReader(lines):
                if row.get("validation/ndcg@10/all"):
                    seconds, ndcg = float(row["train/epoch_seconds"]), float(row["validation/ndcg@10/all"])
                    rows.append({"epoch": int(row["epoch"]), "seconds": seconds, "ndcg@10": ndcg})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--variants", action="store_true", help="change one setting at a time instead")
    parser.add_argument("--folder", type=Path, default=Path("outputs/next_item"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("overrides", nargs="*", help="settings of train.py, for every run")
    given = parser.parse_args()
    bench = Bench(given.folder.resolve(), tuple(given.overrides))
    bench.tables()
    given.results.mkdir(parents=True, exist_ok=True)
    variants = VARIANTS if given.variants else {"as shipped": ()}
    result: dict[str, Any] = {"seeds": given.seeds, "published": PUBLISHED}
    for variant, settings in variants.items():
        runs = []
        for seed in given.seeds:
            name = f"{variant.replace(' ', '-').replace(',', '')}-{seed}"
            run = bench.trained(name, seed, settings)
            if not given.variants:
                run["test"] = bench.tested(name)
            (given.results / f"{name}.json").write_text(json.dumps(run, indent=1) + "\n")
            runs.append(run)
        split = "validation" if given.variants else "test"
        told = {name: [run[split][name]["value"] for run in runs] for name in FIGURES}
        result[variant] = {f"{split}_{name}": _over_seeds(values) for name, values in told.items()}
        print(variant, result[variant], flush=True)
    print(json.dumps(result))


def _over_seeds(values: list[float]) -> dict[str, float]:
    """Mean over seeds, and of several the standard deviation from seed to seed."""
    found = {"mean": float(np.mean(values))}
    if len(values) > 1:
        found["between_seeds"] = float(np.std(values, ddof=1))
    return {name: round(value, 4) for name, value in found.items()}


if __name__ == "__main__":
    main()
