"""Feature tables of growing size: what a training process holds in memory, and how fast its batches come.

`python -m benchmarks.loading [--events 1000000 10000000]` makes tables of so many events in a temporary
folder, measures each in a process of its own and ends with one line of JSON. Memory is anonymous memory (what
the system cannot drop, unlike pages of mapped files) above that after the imports.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DAY, NUM_DAYS, NUM_ITEMS, EVENTS_PER_USER = 86_400, 365, 20_000, 25
CUTS = {"train": [180 * DAY, 220 * DAY, 260 * DAY], "validation": 300 * DAY, "test": 330 * DAY}
USERS_PER_FILE, MAX_LENGTH, TOKENS, NUM_BATCHES, STEP_S = 50_000, 200, 16_384, 200, 0.1


def write_tables(folder: Path, num_events: int, *, num_items: int = NUM_ITEMS) -> None:
    """A version folder; users differ in activity, two events of three are purchases."""
    from recsys.schema import SCHEMA_VERSION, Table

    for name in (Table.HISTORIES, Table.EXAMPLES, Table.USER_FEATURES, Table.VALUE_TARGETS):
        (folder / name).mkdir(parents=True)
    num_users = num_events // EVENTS_PER_USER
    for low in range(0, num_users, USERS_PER_FILE):
        users = np.arange(low, min(low + USERS_PER_FILE, num_users)) + 1
        for name, table in _of_users(users, num_items).items():
            pq.write_table(table, folder / name / f"part-{low:09}.parquet", row_group_size=10_000)
    (folder / Table.ITEM_FEATURES).mkdir()
    pq.write_table(_items(num_items), folder / Table.ITEM_FEATURES / "part-0.parquet")
    metadata: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "version": folder.name, "num_tokens": 10}
    metadata |= {"num_users": num_users, "num_items": num_items, "date_range": [0, NUM_DAYS * DAY]}
    metadata |= {"event_types": {"view": 1, "purchase": 2}, "target_event_types": ["purchase"]}
    metadata |= {"profile_fields": [{"name": "country", "size": 5}], "item_numeric": ["price"]}
    metadata |= {"item_fields": [{"name": "category", "size": 9}], "item_capacity": num_items}
    metadata |= {"dataset": "made", "has_time": True, "has_value": True, "filter_seen": False}
    metadata["split"] = {"kind": "time", "cuts": CUTS, "horizons_days": [30, 90]}
    (folder / Table.METADATA).write_text(json.dumps(metadata))


def _of_users(users: np.ndarray, num_items: int) -> dict[str, pa.Table]:
    from recsys.schema import UserNumeric

    rng = np.random.default_rng(int(users[0]))
    counts = 1 + rng.geometric(1 / (EVENTS_PER_USER - 1), len(users))
    offsets, owner = np.r_[0, np.cumsum(counts)].astype(np.int32), np.repeat(np.arange(len(users)), counts)
    when = rng.integers(0, NUM_DAYS * 24, len(owner)) * 3600
    when = when[np.lexsort((when, owner))]
    columns = {
        "item_index": (rng.power(0.4, len(owner)) * (num_items - 1)).astype(np.int32) + 1,
        "event_type": 1 + (rng.random(len(owner)) < 2 / 3).astype(np.int32),
        "timestamp": when,
        "value": rng.lognormal(3, 1, len(owner)),
        "returned_at": np.zeros(len(owner), np.int64),
    }
    lists = {name: pa.ListArray.from_arrays(offsets, values) for name, values in columns.items()}
    zeros = np.zeros(len(users), np.int32)
    index = {"user_index": users.astype(np.int32), "user_key": [f"{u:064x}" for u in users]}
    cuts = [("train", cut) for cut in CUTS["train"]] + [(s, CUTS[s]) for s in ("validation", "test")]
    user, cut = np.repeat(users, len(cuts)), np.tile([cut for _, cut in cuts], len(users))
    known = np.add.reduceat(when[:, None] <= [c for _, c in cuts], offsets[:-1], dtype=np.int32).ravel()
    pairs = rng.lognormal(2, 1, (len(user), 2)).cumsum(1)
    numbers = {name: rng.lognormal(2, 1, len(user)) for name in UserNumeric.ALL}
    return {
        "histories": pa.table(
            {**index, "window_index": zeros, "num_events": counts.astype(np.int32), **lists}
        ),
        "examples": pa.table(
            {
                "user_index": user.astype(np.int32),
                "cut": cut,
                "split": np.tile([split for split, _ in cuts], len(users)),
                "prefix_length": known,
            }
        ),
        "user_features": pa.table(
            {"user_index": user, "valid_from": cut, **numbers, "profile": list(1 + user[:, None] % 4)}
        ),
        "value_targets": pa.table(
            {
                "user_index": user,
                "cut": cut,
                "spend": list(pairs),
                "num_purchases": list(pairs.astype(np.int32)),
                "num_active_days": list(pairs.astype(np.int32)),
                "next_active_days": rng.lognormal(2, 1, len(user)),
                "observed_days": NUM_DAYS - cut / DAY,
            }
        ),
    }


def _items(num_items: int) -> pa.Table:
    """Every item as known at the held-out cuts."""
    item, cuts = np.arange(1, num_items + 1), [CUTS["validation"], CUTS["test"]]
    columns = {"categorical": item[:, None] % 9, "tokens": item[:, None] % [10, 7]}
    columns |= {"numeric": (item[:, None] % 7).astype(np.float32)}
    at_a_cut = pa.table(
        {
            "item_index": item,
            "item_id": [f"item{number}" for number in item],
            "first_seen": np.zeros(num_items, np.int64),
            "text": [f"thing {number}" for number in item],
            "price": (1 + item % 7).astype(np.float64),
            "popularity": num_items // item,
            "in_training": np.ones(num_items, bool),
            **{name: list(rows) for name, rows in columns.items()},
        }
    )
    dated = [at_a_cut.append_column("valid_from", pa.array(np.full(num_items, cut))) for cut in cuts]
    return pa.concat_tables(dated)


class Peak:
    """The most anonymous memory while it is on, in MiB."""

    def __enter__(self) -> Peak:
        self.mib, self._over = anonymous_mib(), threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(0.005):
            self.mib = max(self.mib, anonymous_mib())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()


def anonymous_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def measure(folder: Path) -> dict[str, float]:
    from recsys.data.plan import ElasticLoader, PlanConfig
    from recsys.data.sample_config import SampleConfig
    from recsys.data.samples import TrainingSamples
    from recsys.data.tables import FeatureTables

    def samples() -> TrainingSamples:
        tables = FeatureTables(tables_dir=folder, cache_dir=folder.parent / "cache")
        config = SampleConfig(max_length=MAX_LENGTH)
        return TrainingSamples(tables=tables, fit_until="validation", config=config)

    imported, figures = anonymous_mib(), dict[str, float]()
    with Peak() as peak, Timed(figures, "build_s"):
        samples()
    figures["build_peak_mib"] = peak.mib - imported
    with Timed(figures, "open_s"):
        opened = samples()
    config = PlanConfig(tokens=TOKENS, multiple=8)
    with Peak() as peak:
        with Timed(figures, "plan_s"):
            loader = ElasticLoader(samples=opened, config=config)
        figures["num_samples"], figures["num_steps"] = len(opened), loader.steps
        with Timed(figures, "load_s"):
            rows, tokens, places = np.sum([_counts(b) for b in islice(loader, NUM_BATCHES)], 0)
        loader.epoch, loader.done = 0, loader.steps // 2
        with Timed(figures, "seek_s"):
            next(iter(loader))
    figures["load_peak_mib"] = peak.mib - imported
    loaded_s = figures.pop("load_s")
    figures |= {"samples_per_s": rows / loaded_s, "tokens_per_s": tokens / loaded_s}
    figures["padding_share"] = 1 - tokens / places
    figures |= {f"wait_share_{n}_workers": _wait_share(opened, config, n) for n in (0, 1)}
    return figures


def _counts(batch: Any) -> tuple[int, int, int]:
    """Rows, real tokens and tokens with padding."""
    items_BL = batch.histories.item_BL
    return len(items_BL), int(batch.histories.length_B.sum()), items_BL.numel()


def _wait_share(samples: Any, config: Any, num_workers: int) -> float:
    """Of the time of steps that take STEP_S each, the share spent waiting for the next batch."""
    from recsys.data.plan import ElasticLoader

    loader = ElasticLoader(samples=samples, config=config, num_workers=num_workers)
    batches: Iterator[Any] = iter(loader)
    next(batches)
    before, began = loader.waited_s, time.perf_counter()
    for _ in islice(batches, 50):
        time.sleep(STEP_S)
    return (loader.waited_s - before) / (time.perf_counter() - began)


class Timed:
    def __init__(self, figures: dict[str, float], name: str) -> None:
        self.figures, self.name = figures, name

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.figures[self.name] = time.perf_counter() - self.began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--measure", type=Path)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    figures, by_size = dict[str, float](), []
    for num_events in arguments.events:
        with tempfile.TemporaryDirectory() as folder:
            write_tables(Path(folder) / "v1", num_events)
            command = [sys.executable, "-m", "benchmarks.loading", "--measure", f"{folder}/v1"]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        by_size.append(json.loads(said.splitlines()[-1]))
        for name, value in by_size[-1].items():
            figures[f"{name}_{num_events}"] = round(value, 3 if abs(value) < 100 else 0)
            print(f"{num_events:>12,} events: {name} {value:,.3f}", flush=True)
    for name in ("build_peak_mib", "load_peak_mib"):
        figures[f"{name}_growth"] = round(by_size[-1][name] / by_size[0][name], 3)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
