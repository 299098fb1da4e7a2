"""What training holds in memory where the catalogue is large: `python -m benchmarks.memory`

Two measurements, each in processes of their own, and one line of JSON at the end:
- a million items, batches of 128 x 200 events, sampled softmax, trained by Lightning in one process: resident
  memory after each stage, and at the most. A process that passes `--limit-gib` is ended there;
- the loss layer's extra memory at growing catalogues with the same negatives and events: the peak of a whole
  forward and backward pass less that of the same pass with a sum in the loss's place, item tables frozen.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from benchmarks.contender import resident_mib
from benchmarks.sequence_tables import write_tables
from benchmarks.train_workloads import drawn
from benchmarks.turns import CALM

MILLION, LENGTH, BATCH_ROWS, NUM_USERS, NUM_STEPS = 1_000_000, 200, 128, 2_000, 6
CATALOGUES = (10_000, 100_000, 1_000_000)
LOSS_ROWS, LOSS_NEGATIVES = 16, 256
MEMORY_BAR_GIB, GROWTH_BAR, LOOK_S = 6.0, 1.1, 0.005
# what is freed goes back at once, so that resident memory is what is held
EXACT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


class Peak:
    """The most resident memory while it is on, in MiB; the process ends where it passes the limit."""

    def __init__(self, limit_mib: float) -> None:
        self.limit_mib = limit_mib

    def __enter__(self) -> Peak:
        self.mib, self._over = resident_mib("VmRSS"), threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            self.mib = max(self.mib, resident_mib("VmRSS"))
            if self.mib > self.limit_mib:
                tell(over_limit=1)
                os._exit(0)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()


def tell(**figures: float) -> None:
    print(json.dumps({name: round(value, 1) for name, value in figures.items()}), flush=True)


def write_catalogue(folder: Path, *, num_items: int, num_users: int) -> None:
    """Users of LENGTH events each."""
    offsets, item_index, _ = drawn(num_users, num_items, median=LENGTH, spread=0.0, least=1)
    write_tables(folder / "tables", offsets=offsets, item_index=item_index, num_items=num_items)


def samples_of(folder: Path, *, num_negatives: int) -> Any:
    from recsys.data.sample_config import SampleConfig
    from recsys.data.samples import TrainingSamples
    from recsys.data.tables import FeatureTables
    from recsys.schema import Split

    tables = FeatureTables(tables_dir=folder / "tables", cache_dir=folder / "cache")
    config = SampleConfig(max_length=LENGTH, num_negatives=num_negatives)
    return TrainingSamples(tables=tables, fit_until=Split.VALIDATION, config=config)


def module_of(samples: Any) -> Any:
    from recsys.build import ModelSettings, model_config
    from recsys.module import ObjectiveConfig, UserModule
    from recsys.nn.user_model import UserModel
    from recsys.training import AdamW, WarmupCosine

    config = model_config(tables=samples.tables, samples=samples, settings=ModelSettings())
    return UserModule(
        model=UserModel(config),
        catalogue=None,  # every batch brings its own
        objective=ObjectiveConfig(),
        optimizer=AdamW(lr=0.002),
        scheduler=WarmupCosine(),
    )


def train_large(arguments: argparse.Namespace) -> None:
    """Stage by stage, with resident memory after each."""
    import pytorch_lightning as pl
    import torch

    from recsys.data.cooccurrence import cooccurrence_vectors
    from recsys.data.datamodule import UserDataModule
    from recsys.data.plan import PlanConfig
    from recsys.data.sample_config import SampleConfig

    tell(imported_mib=resident_mib("VmRSS"))
    samples = samples_of(arguments.folder, num_negatives=SampleConfig.num_negatives)
    tell(samples_mib=resident_mib("VmRSS"))
    module = module_of(samples)
    tell(model_mib=resident_mib("VmRSS"))
    with Peak(arguments.limit_gib * 1024) as peak:
        width = module.model.config.width
        module.model.start_items_from(torch.from_numpy(cooccurrence_vectors(samples, width=width)))
    tell(start_peak_mib=peak.mib, started_mib=resident_mib("VmRSS"))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=arguments.steps,
        gradient_clip_val=1.0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
    )
    plan = PlanConfig(tokens=arguments.rows * LENGTH)
    with Peak(arguments.limit_gib * 1024) as peak:
        trainer.fit(module, datamodule=UserDataModule(samples=samples, plan=plan))
    assert trainer.global_step == arguments.steps
    tell(trained_mib=resident_mib("VmRSS"), peak_mib=peak.mib, over_limit=0)


def loss_layer(arguments: argparse.Namespace) -> None:
    """Both peaks above what was held before; the first pass of each is not counted."""
    from recsys.data.plan import ElasticLoader, PlanConfig

    samples = samples_of(arguments.folder, num_negatives=LOSS_NEGATIVES)
    module = module_of(samples).train()
    for table in (module.model.item_tower.lookup, module.model.item_bias):
        table.requires_grad_(False)
    batch = next(iter(ElasticLoader(samples=samples, config=PlanConfig(tokens=arguments.rows * LENGTH))))

    def whole() -> Any:
        return module.losses(batch)["items"]

    def without() -> Any:
        states = module.model(batch.histories, batch.catalogue(None))
        return sum(state.sum() for state in states)

    found = {}
    for name, loss in (("without_mib", without), ("whole_mib", whole)):
        for _ in range(2):
            module.zero_grad()
            before_mib = resident_mib("VmRSS")
            with Peak(arguments.limit_gib * 1024) as peak:
                loss().backward()
            found[name] = peak.mib - before_mib
    tell(**found, extra_mib=found["whole_mib"] - found["without_mib"], over_limit=0)


CASES = {"large": train_large, "loss": loss_layer}


def in_a_process(
    case: str, arguments: argparse.Namespace, *, num_items: int, num_users: int, rows: int
) -> dict[str, float]:
    """What a case told; its files are made by processes of their own."""
    with tempfile.TemporaryDirectory() as place:
        write_catalogue(Path(place), num_items=num_items, num_users=num_users)
        command = [sys.executable, "-m", "benchmarks.memory", "--folder", place, "--rows", str(rows)]
        command += ["--limit-gib", str(arguments.limit_gib), "--steps", str(arguments.steps)]
        environment = os.environ | CALM | EXACT | {"OMP_NUM_THREADS": str(arguments.threads)}
        told = dict[str, float]()
        for step in ("prepare", case):
            done = subprocess.run(
                [*command, "--case", step], env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
            for line in done.stdout.splitlines():
                told |= json.loads(line)
        return told


def prepare(arguments: argparse.Namespace) -> None:
    """The samples of both cases are built, so that opening them is all that is left."""
    from recsys.data.sample_config import SampleConfig

    for num_negatives in (SampleConfig.num_negatives, LOSS_NEGATIVES):
        samples_of(arguments.folder, num_negatives=num_negatives)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=MILLION)
    parser.add_argument("--catalogues", type=int, nargs="*", default=list(CATALOGUES))
    parser.add_argument("--rows", type=int, default=BATCH_ROWS, help="of 200 events, in a batch")
    parser.add_argument("--loss-rows", type=int, default=LOSS_ROWS, help="of 200 events, for the loss alone")
    parser.add_argument("--users", type=int, default=NUM_USERS)
    parser.add_argument("--steps", type=int, default=NUM_STEPS)
    parser.add_argument("--limit-gib", type=float, default=1.25 * MEMORY_BAR_GIB)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--case", choices=[*CASES, "prepare"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        (CASES | {"prepare": prepare})[arguments.case](arguments)
        return
    figures = dict[str, float]()
    large = in_a_process(
        "large", arguments, num_items=arguments.items, num_users=arguments.users, rows=arguments.rows
    )
    for name, value in large.items():
        print(f"{arguments.items:>10,} items, batch {arguments.rows} x {LENGTH}: {name} {value:,.0f}")
        figures[f"large_{name}"] = value
    within = not large["over_limit"] and large["peak_mib"] <= 1024 * MEMORY_BAR_GIB
    print(f"  within {MEMORY_BAR_GIB:g} GiB: {'met' if within else 'missed'}", flush=True)
    extra = []
    for num_items in arguments.catalogues:
        told = in_a_process(
            "loss", arguments, num_items=num_items, num_users=arguments.users, rows=arguments.loss_rows
        )
        for name, value in told.items():
            figures[f"loss_{num_items}_{name}"] = value
        extra.append(told.get("extra_mib", float("nan")))
        print(
            f"{num_items:>10,} items: loss layer {extra[-1]:,.0f} MiB above the rest of the step", flush=True
        )
    if len(extra) > 1:
        figures["loss_growth"] = round(extra[-1] / extra[0], 3)
        met = "met" if figures["loss_growth"] <= GROWTH_BAR else "missed"
        print(f"  growth {figures['loss_growth']:.2f} (bar: at most {GROWTH_BAR:g}, {met})")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
