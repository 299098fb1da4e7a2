"""What each part brings where order decides: `python -m benchmarks.next_item_ablation`

Small models for few epochs on MovieLens-1M, one change at a time, judged on validation: the difference in
NDCG@10 to the model without the change, paired by user and averaged over seeds, with its bootstrap interval
over users, and how it differs from seed to seed. A run that is done is not run again. Ends with one line of
JSON.

Legend: U users, S seeds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.next_item import ROOT
from recsys.metrics.interval import mean_interval

SMALL = ("model.width=64", "model.score_width=64", "model.num_heads=2", "model.num_blocks=2")
DRAWN = "data.samples.num_negatives"
RARE = 2  # what fewer films share tells nothing


@dataclass(frozen=True)
class Change:
    """settings: of train; dataset: overrides of the tables' data set; trial: of `next_item_trial`."""

    settings: tuple[str, ...] = ()
    dataset: tuple[str, ...] = ()
    trial: str = "none"


CHANGES = {
    "base": Change(),
    "loss: 256 drawn negatives, log Q": Change((f"{DRAWN}=256",)),
    "loss: gBCE, 256 drawn negatives": Change((f"{DRAWN}=256",), trial="gbce"),
    "label smoothing 0.1": Change(trial="label smoothing"),
    "dense all-action targets": Change(trial="dense targets"),
    "dot product": Change(("model.temperature=1",), trial="dot product"),
    "learned positions": Change(("model.positions=learned",)),
    "cross-attention": Change(("model.cross_attention=true",)),
    "4 blocks": Change(("model.num_blocks=4",)),
    "no dropout of user vectors": Change(("model.user_dropout=0",)),
    "no content": Change(dataset=("~dataset.items",)),
    "no profile": Change(dataset=("~dataset.users",)),
    "knowledge graph": Change(
        dataset=("dataset.items.source.path={graph}", "+dataset.items.tokens.graph=graph")
    ),
}


def write_graph(shared: Path, file: Path) -> Path:
    """The film table with one more column: directors, stars, writers, countries, ... of the graph that comes
    with MKR, those that at least two films share."""
    films = pq.read_table(shared / "ml-1m" / "movies.parquet")
    entity_of: dict[int, int] = {}
    tails: dict[int, list[str]] = defaultdict(list)
    with gzip.open(shared / "kg-mkr" / "movie_item_index2entity_id.txt.gz", "rt") as lines:
        for line in lines:
            film, entity = line.split()
            entity_of[int(film)] = int(entity)
    num_films: dict[str, int] = defaultdict(int)
    with gzip.open(shared / "kg-mkr" / "movie_kg.txt.gz", "rt") as lines:
        for line in lines:
            head, relation, tail = line.split()
            name = f"{relation.rsplit('.', 1)[-1]} {tail}"
            tails[int(head)].append(name)
            num_films[name] += 1
    graph = [
        [name for name in tails[entity_of.get(film, -1)] if num_films[name] >= RARE]
        for film in films["movie_id"].to_pylist()
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(films.append_column("graph", pa.array(graph, pa.list_(pa.string()))), file)
    return file


@dataclass(frozen=True)
class Ablation:
    """Where runs lie, how long they are, and the film table with the graph."""

    folder: Path
    epochs: int
    graph: Path

    def ndcg_U(self, name: str, seed: int) -> np.ndarray:
        """NDCG@10 of each user on validation."""
        change = CHANGES[name]
        run = f"{_plain(name)}-{seed}"
        file = self.folder / f"{run}-{self.epochs}.npy"
        if not file.is_file():
            features = self._tables(tuple(part.format(graph=self.graph) for part in change.dataset))
            self._run(
                *("-m", "benchmarks.next_item_trial", change.trial, str(file)),
                *("experiment=next_item", "dataset=ml_1m", f"name={run}", f"seed={seed}"),
                *(f"trainer.max_epochs={self.epochs}", *SMALL, *change.settings),
                *(f"features_dir={features}", f"cache_dir={features / 'cache'}"),
                *(f"models_dir={self.folder / 'models'}", f"output_dir={self.folder / 'runs' / run}"),
                *("logger.wandb=null", "~callbacks.progress", "+trainer.enable_progress_bar=false"),
            )
        found: np.ndarray = np.load(file)
        return found

    def _tables(self, overrides: tuple[str, ...]) -> Path:
        folder = self.folder / f"features-{_plain(' '.join(overrides))[:24] or 'base'}"
        if not (folder / "ml_1m" / "latest").exists():
            places = (f"features_dir={folder}", f"feedback_dir={folder / 'feedback'}")
            self._run("-m", "spark_jobs", "dataset=ml_1m", "allow_demo_key=true", *places, *overrides)
        return folder

    def _run(self, *arguments: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True, stdout=sys.stderr)


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--changes", nargs="+", default=list(CHANGES), choices=list(CHANGES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--folder", type=Path, default=Path("outputs/next_item_ablation"))
    given = parser.parse_args()
    shared = Path(os.environ.get("RECSYS_SHARED_DATA", ROOT.parent / "shared" / "data"))
    folder = given.folder.resolve()
    ablation = Ablation(folder, given.epochs, write_graph(shared, folder / "films.parquet"))
    result: dict[str, object] = {"seeds": given.seeds, "epochs": given.epochs}
    for name in given.changes:
        ndcg_SU = np.stack([ablation.ndcg_U(name, seed) for seed in given.seeds])
        told: dict[str, object] = {"ndcg@10": round(float(np.nanmean(ndcg_SU)), 4)}
        if name != "base":
            base_SU = np.stack([ablation.ndcg_U("base", seed) for seed in given.seeds])
            gain_SU = ndcg_SU - base_SU
            told |= asdict(mean_interval(gain_SU.mean(0)))
            told["by_seed"] = [round(float(gain), 4) for gain in np.nanmean(gain_SU, 1)]
        result[name] = told
        print(name, told, flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
