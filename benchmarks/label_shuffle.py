"""Fits on labels dealt to other users must know nothing of value: python -m benchmarks.label_shuffle

Gini of the spend of the test cut's users over the longest horizon that earlier cuts were watched through, by
boosted trees and by the value heads as training starts them, as labelled and over deals of the labels among
all users of the training cuts. The features go together, so one deal orders users well or badly by chance,
with either sign: look at the mean over deals, which a way from the outcome to the model would lift above 0.
`--whole N` also trains the whole model on N deals, with the settings of the demo (minutes each).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t as student

from recsys.baselines.boosted_trees import BoostedTrees, WatchedCuts
from recsys.build import ModelSettings, model_config
from recsys.data import samples as samples_module
from recsys.data.cut_features import raw_cut_features
from recsys.data.cut_queries import CutQueryTable, training_cuts
from recsys.data.sample_config import SampleConfig
from recsys.data.samples import TrainingSamples
from recsys.data.tables import FeatureTables
from recsys.evaluation.challengers import watched_cuts, watched_horizons
from recsys.metrics.value import normalised_gini
from recsys.nn.value_heads import ValueHeads
from recsys.schema import Split, UserNumeric
from recsys.value_start import start_value_heads


def dealt_cuts(past: WatchedCuts, rng: np.random.Generator) -> WatchedCuts:
    """Each horizon's labels among the pairs that were watched through it, whatever their cut."""
    columns = {"activity": past.activity}
    for name in ("spend", "returned", "bought"):
        columns[name] = _dealt(getattr(past, name), np.isfinite(past.spend), rng)
    return WatchedCuts(**columns)


def dealt_queries(cuts: CutQueryTable, rng: np.random.Generator) -> CutQueryTable:
    """The same for what the model trains on; a time to return goes with how long it was watched for."""
    observed_KH = np.asarray(cuts.observed)
    order_K = rng.permutation(len(observed_KH))
    return replace(
        cuts,
        spend=_dealt(np.asarray(cuts.spend), observed_KH, rng),
        converted=_dealt(np.asarray(cuts.converted)[:, None], observed_KH[:, :1], rng)[:, 0],
        next_active_days=np.asarray(cuts.next_active_days)[order_K],
        observed_days=np.asarray(cuts.observed_days)[order_K],
    )


def _dealt(label_KH: np.ndarray, known_KH: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    out_KH = label_KH.copy()
    for h in range(label_KH.shape[1]):
        known = np.flatnonzero(known_KH[:, h])
        out_KH[known, h] = label_KH[rng.permutation(known), h]
    return out_KH


def report(name: str, as_labelled: float, dealt: list[float]) -> None:
    mean, spread = float(np.mean(dealt)), float(np.std(dealt, ddof=1))
    half = float(student.ppf(0.975, len(dealt) - 1)) * spread / np.sqrt(len(dealt))
    interval = f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"
    print(f"| {name} | {as_labelled:.3f} | {interval} | {spread:.3f} | {len(dealt)} |", flush=True)


def skew_line(past: WatchedCuts, h: int, *, num_deals: int = 2000) -> str:
    """Why the mean Gini may lie below 0: two columns with long tails go together by chance less than half the
    time, if then strongly; a figure of ranks sees only how often."""
    known = np.isfinite(past.spend[:, h])
    dealt, before = past.spend[known, h], past.activity[known, UserNumeric.ALL.index(UserNumeric.SPEND)]
    centred, rng = before - before.mean(), np.random.default_rng(0)
    covariance = np.array([centred @ rng.permutation(dealt) for _ in range(num_deals)])
    away = covariance.mean() / covariance.std() * np.sqrt(num_deals)
    return (
        f"Covariance of spend before the cut and dealt spend after it, {num_deals:,} deals: mean {away:+.1f} "
        f"standard errors from 0, below 0 in {(covariance < 0).mean():.1%} of them"
    )


def whole_model(seed: int | None, *, days: int, folder: Path) -> float:
    """Gini of a demo training; its labels dealt by `seed`, None: as they are."""
    from recsys.commands import train

    class Dealt(TrainingSamples):
        def __init__(self, **settings: object) -> None:
            super().__init__(**settings)  # type: ignore[arg-type]
            if seed is not None:
                self.cuts = dealt_queries(self.cuts, np.random.default_rng(seed))

    samples_module.TrainingSamples = Dealt  # type: ignore[misc]
    name = f"dealt{seed}"
    quiet = ("logger.wandb=null", "~callbacks.progress", "+trainer.enable_progress_bar=false")
    places = (f"models_dir={folder}", f"output_dir={folder / name}", f"seed={seed or 0}")
    sys.argv = ["train.py", "experiment=demo", f"name={name}", *quiet, *places]
    train.main()
    figures = json.loads((folder / name / "metrics.json").read_text())["figures"]
    return float(figures[f"value/{days}d/gini/aurm"]["value"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", default="features/online_retail/latest")
    parser.add_argument("--deals", type=int, default=20)
    parser.add_argument("--whole", type=int, default=0)
    asked = parser.parse_args()
    tables = FeatureTables(tables_dir=asked.tables)
    table, horizons_days = tables.at_cut(split=Split.TEST), tables.horizons_days
    cuts = training_cuts(tables, fit_until=Split.TEST, boundary=table.cut)
    past = watched_cuts(cuts, horizons_days, boundary=table.cut)
    users_U = table.prefix_length > 0
    known_H = watched_horizons(table, horizons_days)[users_U].all(axis=0)
    h = int(np.flatnonzero(known_H & np.isfinite(past.spend).any(axis=0)).max())
    actual_U, activity_UA = table.spend[users_U, h], table.activity[users_U]
    print(f"| Gini of {horizons_days[h]}-day spend | as labelled | labels dealt | spread of a deal | deals |")
    print("|---|---|---|---|---|")

    def both(name: str, fit: Callable[[np.random.Generator | None], np.ndarray]) -> None:
        rng = np.random.default_rng(0)
        dealt = [float(normalised_gini(actual_U, fit(rng))) for _ in range(asked.deals)]
        report(name, float(normalised_gini(actual_U, fit(None))), dealt)

    def trees(rng: np.random.Generator | None) -> np.ndarray:
        learned = past if rng is None else dealt_cuts(past, rng)
        only = WatchedCuts(
            learned.activity, *(getattr(learned, n)[:, [h]] for n in ("spend", "returned", "bought"))
        )
        return BoostedTrees(past=only, activity_UA=activity_UA).spend()[:, 0]

    samples = TrainingSamples(tables=tables, fit_until=Split.TEST, config=SampleConfig())
    config = model_config(tables=tables, samples=samples, settings=ModelSettings()).value_heads
    assert config is not None, "these tables have no value heads"
    features_BCR = torch.from_numpy(samples.scaler(raw_cut_features(activity_UA)))[:, None]

    def linear(rng: np.random.Generator | None) -> np.ndarray:
        heads = ValueHeads(config)
        start_value_heads(
            heads, samples.cuts if rng is None else dealt_queries(samples.cuts, rng), scaler=samples.scaler
        )
        with torch.no_grad():
            spend: np.ndarray = heads.linear(features_BCR).expected_spend()[:, 0, h].double().numpy()
        return spend

    both("boosted trees", trees)
    both("value heads at their start", linear)
    print("", skew_line(past, h), sep="\n", flush=True)
    if asked.whole:
        with tempfile.TemporaryDirectory() as folder:
            real, *dealt = (
                whole_model(seed, days=horizons_days[h], folder=Path(folder))
                for seed in (None, *range(1, asked.whole + 1))
            )
        report("the whole model", real, dealt)


if __name__ == "__main__":
    main()
