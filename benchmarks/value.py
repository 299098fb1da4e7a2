"""How good value predictions are, from feature tables to figures: `python -m benchmarks.value`

Every part runs the commands as anyone would: Online Retail, Complete Journey (where the data is there), a
cohort log of heavy tails by its YAML alone, and an ablation on Online Retail of what value and items do for
each other. `--past` judges at the validation cut what has learned up to it: where settings are chosen.
`--test-cut DATE` moves the test to an earlier day, whose future the log holds too. A run whose figures lie in
`--folder` with the same settings is not run again. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cohort_log import write_cohort

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("online_retail", "complete_journey", "cohort", "ablation")
CHALLENGERS = ("past_spend", "bg_nbd_gamma_gamma", "gbm")
VARIANTS = {
    "joint": (),
    "items_only": ("objective.spend=0", "objective.retention=0", "objective.conversion=0"),
    "value_only": ("objective.items=0",),
    "cut_features_alone": ("trainer.max_steps=1",),  # the heads as they start, without the states
}
FIGURES = ("gini", "spearman", "total_bias", "decile_mape", "coverage90")
NDCG = "ranking/all/ndcg@10/aurm"


@dataclass(frozen=True)
class Bench:
    """Where runs lie, and what is said to every command."""

    folder: Path
    split: str
    overrides: tuple[str, ...]
    cut: tuple[str, ...] = ()  # the override of the test cut

    def tables(self, dataset: str, config_dir: Path | None = None) -> None:
        """Feature tables of the data set, once."""
        if (self.folder / "features" / dataset / "latest").exists():
            return
        self._run(
            *("-m", "spark_jobs", *_config(config_dir), f"dataset={dataset}"),
            f"features_dir={self.folder / 'features'}",
            f"feedback_dir={self.folder / 'feedback'}",
            "allow_demo_key=true",
            *self.cut,
        )

    def figures(
        self, dataset: str, seed: int, *, variant: str = "joint", config_dir: Path | None = None
    ) -> dict[str, Any]:
        """The figures of one training, from its metrics.json where it has been run before."""
        name = f"{self.split}-{variant}-{seed}"
        output = self.folder / "runs" / dataset / name
        settings = [f"fit_until={self.split}", f"seed={seed}"]
        settings += [*VARIANTS[variant], *self.overrides, *self.cut]
        done, metrics = output / "settings.json", output / "metrics.json"
        if not (metrics.is_file() and done.is_file() and json.loads(done.read_text()) == settings):
            started = time.monotonic()
            self._run(
                *("train.py", *_config(config_dir), f"dataset={dataset}", f"name={name}", *settings),
                f"features_dir={self.folder / 'features'}",
                f"models_dir={self.folder / 'models'}",
                f"cache_dir={self.folder / 'cache'}",
                f"output_dir={output}",
                *("logger.wandb=null", "~callbacks.progress", "+trainer.enable_progress_bar=false"),
            )
            print(f"{dataset} {name}: {time.monotonic() - started:.0f} s", flush=True)
            done.write_text(json.dumps(settings))
        figures: dict[str, Any] = json.loads(metrics.read_text())["figures"]
        return figures

    def _run(self, *arguments: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True, stdout=sys.stderr)


def _config(config_dir: Path | None) -> tuple[str, ...]:
    return () if config_dir is None else ("--config-dir", str(config_dir))


def horizons(figures: dict[str, Any]) -> list[int]:
    """Days of the horizons that have figures of spend."""
    parts = [name.split("/") for name in figures]
    return sorted({int(p[1][:-1]) for p in parts if p[0] == "value" and p[2] == "gini"})


def told(figures: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Name and value: the model's figures at each horizon, the challengers', and the paired differences."""
    for days in horizons(figures):
        for metric in FIGURES:
            for model in ("aurm", *CHALLENGERS, *(f"aurm_minus_{name}" for name in CHALLENGERS)):
                figure = figures.get(f"value/{days}d/{metric}/{model}")
                if figure is not None and figure["value"] is not None:
                    yield f"{days}d_{metric}_{model}", figure["value"]
                    if "_minus_" in model and figure["low"] is not None:
                        yield f"{days}d_{metric}_{model}_low", figure["low"]
                        yield f"{days}d_{metric}_{model}_high", figure["high"]


def print_table(title: str, figures: dict[str, Any]) -> None:
    print(f"\n{title}")
    for days in horizons(figures):
        for model in ("aurm", *CHALLENGERS):
            cells = [figures.get(f"value/{days}d/{metric}/{model}") for metric in FIGURES]
            row = [f"{c['value']:9.3f}" if c and c["value"] is not None else " " * 9 for c in cells]
            if any(c is not None for c in cells):
                print(f"{days:4d} d  {model:20s}" + " ".join(row))


def over_seeds(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard error over seeds."""
    spread = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return {"mean": round(float(np.mean(values)), 5), "standard_error": round(spread, 5)}


def assess(
    bench: Bench, dataset: str, seeds: Sequence[int], config_dir: Path | None = None
) -> dict[str, Any]:
    """Mean over seeds of every figure of spend."""
    bench.tables(dataset, config_dir)
    runs = [bench.figures(dataset, seed, config_dir=config_dir) for seed in seeds]
    for seed, figures in zip(seeds, runs, strict=True):
        print_table(f"{dataset}, seed {seed}: " + " ".join(f"{name:>9s}" for name in FIGURES), figures)
    rows = [dict(told(figures)) for figures in runs]
    names = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: over_seeds([row[name] for row in rows]) for name in names}


def ablation(bench: Bench, dataset: str, seeds: Sequence[int]) -> dict[str, Any]:
    """NDCG@10 and the Gini of the longest horizon of each variant; differences to the joint model by seed."""
    bench.tables(dataset)
    found: dict[str, Any] = {}
    joint: list[tuple[float, float]] = []
    for variant in VARIANTS:
        pairs = []
        for seed in seeds:
            figures = bench.figures(dataset, seed, variant=variant)
            gini = figures[f"value/{max(horizons(figures))}d/gini/aurm"]["value"]
            pairs.append((figures[NDCG]["value"], gini))
        joint = joint or pairs
        found[variant] = {
            "ndcg@10": over_seeds([ndcg for ndcg, _ in pairs]),
            "gini": over_seeds([gini for _, gini in pairs]),
            "joint_ndcg_over_this": over_seeds(
                [j / n - 1 for (j, _), (n, _) in zip(joint, pairs, strict=True)]
            ),
            "joint_gini_minus_this": over_seeds([j - g for (_, j), (_, g) in zip(joint, pairs, strict=True)]),
        }
        print(variant, found[variant], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("outputs/value"))
    parser.add_argument("--test-cut", help="YYYY-MM-DD, instead of the data set's own")
    parser.add_argument("--past", action="store_true", help="judge at the validation cut")
    parser.add_argument("overrides", nargs="*", help="settings of train.py, for every run")
    given = parser.parse_args()
    folder, cut = given.folder.resolve(), ()
    if given.test_cut:
        folder, cut = folder / given.test_cut, (f"dataset.split.test_cut={given.test_cut}",)
    bench = Bench(folder, "validation" if given.past else "test", tuple(given.overrides), cut)
    shared = Path(os.environ.get("RECSYS_SHARED_DATA", ROOT.parent / "shared" / "data"))
    result: dict[str, Any] = {"cut": given.test_cut or bench.split, "seeds": given.seeds}
    for part in given.parts:
        if part == "complete_journey" and not (shared / "complete-journey").is_dir():
            print(f"complete_journey is left out: {shared / 'complete-journey'} is missing", flush=True)
        elif part == "ablation":
            result[part] = ablation(bench, "online_retail", given.seeds)
        else:
            config_dir = write_cohort(bench.folder / "cohort", seed=0) if part == "cohort" else None
            result[part] = assess(bench, part, given.seeds, config_dir)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
