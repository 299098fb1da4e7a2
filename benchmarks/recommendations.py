"""What a million users of 100,000 items take: a sample answered, the rest planned.

`python -m benchmarks.recommendations [--users 4096] [--ranks 1 8 64]` makes feature tables and a model of
random weights, answers the users of the sample as `recsys recommend` does, puts the parts together, and ends
with one line of JSON. Planned is: a start, which is opening and a first part, answering in proportion to
users and shared by the ranks, and putting together in proportion to users and by one rank. `--all-scores`
answers from all scores of every user, as models with neighbours do, to compare. Times are of `--clock`: on a
busy machine, `--threads 1 --clock processor` counts only the time that the process had a processor.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
from pathlib import Path
from unittest.mock import patch

import torch

from benchmarks.loading import CUTS, MAX_LENGTH, write_tables
from benchmarks.top_k import CLOCKS
from recsys.bundle import Bundle
from recsys.commands.recommend import answer, write_recommendations
from recsys.data.cut_features import NUM_CUT_FEATURES
from recsys.data.tables import FeatureTables
from recsys.nn.item_tower import ItemTowerConfig
from recsys.nn.user_model import UserModel, UserModelConfig
from recsys.nn.value_heads import ValueHeadsConfig
from recsys.parts import Parts
from recsys.policy.slates import PolicyConfig
from recsys.recommendation import Recommender
from recsys.schema import Table

EVENTS_PER_USER, CHUNK_USERS = 25, 1024
NO_VOCABULARIES = {"tokens": [], "category": [], "price_band_thresholds": []}
NO_FIELDS = {"item_fields": {}, "profile_fields": {}}
POLICIES = {
    "plackett_luce": PolicyConfig(
        kind="plackett_luce", slate_size=10, num_candidates=200, exploration_floor=0.05
    ),
    "deterministic": PolicyConfig(kind="deterministic", slate_size=10),
}


def tables_of(folder: Path, arguments: argparse.Namespace) -> FeatureTables:
    write_tables(folder / "v1", arguments.users * EVENTS_PER_USER, num_items=arguments.items)
    (folder / "v1" / Table.VOCABULARIES).write_text(json.dumps(NO_VOCABULARIES | NO_FIELDS))
    return FeatureTables(tables_dir=folder / "v1", cache_dir=folder / "cache")


def untrained(tables: FeatureTables, arguments: argparse.Namespace) -> Bundle:
    metadata, width = tables.metadata, arguments.width
    config = UserModelConfig(
        item_tower=ItemTowerConfig(
            capacity=tables.num_items,
            field_sizes=tuple(field["size"] for field in metadata["item_fields"]),
            num_numeric=len(metadata["item_numeric"]),
            num_tokens=metadata["num_tokens"],
            width=width,
        ),
        value_heads=ValueHeadsConfig(
            width=width,
            num_heads=4,
            num_features=NUM_CUT_FEATURES,
            horizons_days=tuple(tables.horizons_days),
            bin_ends_days=(1, 7, *tables.horizons_days),
            log_spend=tuple(3.0 for _ in tables.horizons_days),
        ),
        num_event_types=len(metadata["event_types"]),
        profile_sizes=tuple(field["size"] for field in metadata["profile_fields"]),
        width=width,
        score_width=width,
        num_blocks=arguments.blocks,
        num_heads=4,
        max_length=MAX_LENGTH,
    )
    torch.manual_seed(0)
    known = {"dataset": metadata["dataset"], "cut": CUTS["test"], "learned_until": CUTS["test"]}
    return Bundle(
        model=UserModel(config).eval(),
        scaler={"mean": [0.0] * NUM_CUT_FEATURES, "std": [1.0] * NUM_CUT_FEATURES},
        trained_on=known,
        settings={},
        vocabularies={},
        item_ids=[str(item_id) for item_id in tables.items("test").item_id],
    )


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    clock = CLOCKS[arguments.clock]
    tables = tables_of(folder, arguments)
    bundle = untrained(tables, arguments)
    figures, load, began = {}, os.getloadavg()[0], clock()
    recommender = Recommender(
        bundle=bundle,
        tables=tables,
        at="test",
        top_k=arguments.top_k,
        policy=POLICIES[arguments.policy],
        chunk_users=CHUNK_USERS,
    )
    recommender.chunk(0)
    figures["start_s"] = clock() - began
    parts = Parts(folder / "out", settings={}, num_parts=recommender.num_chunks)
    began = clock()
    answer(recommender, parts, dataset="made", fingerprint="none")
    figures["answer_ms_per_user"] = 1e3 * (clock() - began) / recommender.num_users
    began = clock()
    vectors_VS, items = recommender.item_vectors(), recommender.items
    write_recommendations(
        parts, items=items, item_vector_VS=vectors_VS, output=folder / "out", show_names=True
    )
    figures["together_ms_per_user"] = 1e3 * (clock() - began) / recommender.num_users
    figures["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{recommender.num_users:,} users, {arguments.items:,} items, width {arguments.width}, "
        f"{arguments.blocks} blocks, {arguments.policy}, top {arguments.top_k}, "
        f"{arguments.threads} threads, {arguments.clock} time; load {load:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after"
    )
    return figures


def planned(figures: dict[str, float], *, users: int, ranks: list[int]) -> dict[str, float]:
    """Hours for all users on so many ranks, each as fast as this process was."""
    answer_s, together_s = (
        users * figures[name] / 1e3 for name in ("answer_ms_per_user", "together_ms_per_user")
    )
    return {
        f"planned_hours_{num}_ranks": (figures["start_s"] + answer_s / num + together_s) / 3600
        for num in ranks
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=4096)
    parser.add_argument("--planned-users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--top-k", type=int, default=100)
    parser.add_argument("--policy", choices=POLICIES, default="plackett_luce")
    parser.add_argument("--all-scores", action="store_true")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as place:
        if arguments.all_scores:
            with patch("recsys.recommendation.finds_without_scores", lambda *_: False):
                figures = measure(Path(place), arguments)
        else:
            figures = measure(Path(place), arguments)
    figures |= planned(figures, users=arguments.planned_users, ranks=arguments.ranks)
    for name, value in figures.items():
        print(f"{name} {value:,.3f}")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
