"""Item tables over the ranks: does a step depend on the size of the table, and what does it hold in memory?

`python benchmarks/sharded_tables.py` starts processes of its own as ranks and ends with one line of JSON.
Step times: the same work on tables of 100 thousand, 1 and 10 million rows, step by step in turn, so that
whatever else the machine does falls on all of them. Memory: training of 10 million rows by Lightning, on two
ranks and on one, in processes that do nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
SIZES, WIDTH = (100_000, 1_000_000, 10_000_000), 64
NUM_ROWS, LENGTH, NUM_IDS, NUM_NEGATIVES = (
    64,
    50,
    12_000,
    10_000,
)  # a rank, at any size of the table
STEPS, MEMORY_STEPS = 40, 20


def catalogue(item_V: np.ndarray) -> Any:
    """Content that an item's index makes: as a batch of a large catalogue brings it."""
    from recsys.batch import Catalogue

    index_V = torch.from_numpy(item_V)
    return Catalogue(
        item_V=index_V,
        categorical_VF=1 + index_V[:, None] % 99,
        numeric_VN=torch.stack([index_V % 7 - 3.0, index_V % 11 - 5.0], 1),
        tokens_VT=1 + index_V[:, None] * torch.tensor([1, 3, 5, 7]) % 999,
        in_training_V=index_V > 0,
        popularity_TVW=(index_V[None, :, None] % torch.tensor([5, 7, 11, 13])).float(),
    )


def batches(num_items: int, *, count: int, seed: int) -> Iterator[Any]:
    """Exactly NUM_IDS distinct items each, spread over the whole table."""
    from recsys.batch import Candidates, CutQueries, Histories, ItemQueries, TrainBatch

    random = np.random.default_rng(seed)
    for step in range(count):
        item = np.unique(random.integers(1, num_items + 1, size=NUM_IDS * 2))
        item = np.sort(random.choice(item, NUM_IDS - 1, replace=False))
        place = torch.from_numpy(random.integers(1, NUM_IDS, size=(NUM_ROWS, LENGTH)))
        weight = torch.full((NUM_IDS,), -float(np.log(NUM_NEGATIVES / num_items)))
        weight[NUM_NEGATIVES:] = -torch.inf
        none = torch.zeros(NUM_ROWS, 1)
        yield TrainBatch(
            histories=Histories(
                item_BL=place,
                event_type_BL=torch.ones_like(place),
                timestamp_BL=torch.arange(LENGTH).expand(NUM_ROWS, -1) * 86_400,
                value_BL=torch.ones(NUM_ROWS, LENGTH),
                length_B=torch.full((NUM_ROWS,), LENGTH),
                profile_BF=torch.ones(NUM_ROWS, 1, dtype=torch.int64),
            ),
            items=ItemQueries(
                row_Q=torch.arange(NUM_ROWS),
                length_Q=torch.full((NUM_ROWS,), LENGTH),
                weight_Q=torch.ones(NUM_ROWS),
                period_Q=torch.zeros(NUM_ROWS, dtype=torch.int64),
                discovers_Q=torch.zeros(NUM_ROWS, dtype=torch.bool),
                target_query_P=torch.arange(NUM_ROWS),
                target_item_P=torch.from_numpy(random.integers(1, NUM_IDS, size=NUM_ROWS)),
            ),
            cuts=CutQueries(*(none for _ in CutQueries._fields)),
            candidates=Candidates(catalogue(np.r_[0, item]), weight, torch.arange(1, len(weight))),
            total_weight=float(2 * NUM_ROWS),
            total_cuts=0,
            position=(0, step + 1),
        )


def module(num_items: int) -> Any:
    from recsys.build import ModelSettings
    from recsys.module import ObjectiveConfig, UserModule
    from recsys.nn.item_tower import ItemTowerConfig
    from recsys.nn.user_model import UserModelConfig
    from recsys.parallel.tables import user_model
    from recsys.training import AdamW, WarmupCosine

    torch.manual_seed(0)
    config = UserModelConfig(
        item_tower=ItemTowerConfig(
            capacity=num_items, field_sizes=(100,), num_numeric=2, num_tokens=1000, width=WIDTH
        ),
        value_heads=None,
        num_event_types=3,
        profile_sizes=(3,),
        width=WIDTH,
    )
    return UserModule(
        model=user_model(config, ModelSettings(table="sharded"), seed=0),
        catalogue=None,  # every batch brings its own
        objective=ObjectiveConfig(),
        optimizer=AdamW(lr=0.002),
        scheduler=WarmupCosine(warmup_steps=5),
    )


def step_times() -> dict[str, Any]:
    """Forward, backward, dense and table step on this rank; every size in turn."""
    import torch.distributed as dist

    from recsys.parallel.tables import tables_of

    dist.init_process_group("gloo")
    runs = []
    for size in SIZES:
        trained = module(size)
        tables = tables_of(trained)
        for table in tables.values():
            table.allocate(torch.device("cpu"))
        optimizer = torch.optim.AdamW(trained.parameters(), lr=0.002)
        runs.append((trained, tables, optimizer, batches(size, count=STEPS, seed=dist.get_rank())))
    times: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(STEPS):
        for size, (trained, tables, optimizer, stream) in zip(SIZES, runs, strict=True):
            batch = next(stream)
            dist.barrier()
            began = time.perf_counter()
            (trained.losses(batch)["items"] * 2).backward()
            dense = [p.grad for p in trained.parameters() if p.grad is not None]
            flat = torch.cat([g.ravel() for g in dense])
            dist.all_reduce(flat)
            for gradient, mean in zip(dense, (flat / 2).split([g.numel() for g in dense]), strict=True):
                gradient.copy_(mean.view_as(gradient))
            optimizer.step()
            optimizer.zero_grad()
            for table in tables.values():
                table.step(max_norm=1.0)
            dist.barrier()
            times[size].append(time.perf_counter() - began)
    return {"times_s": {str(size): taken[5:] for size, taken in times.items()}}


class _Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
    def __init__(self, num_items: int, seed: int) -> None:
        self.num_items, self.seed = num_items, seed

    def __iter__(self) -> Iterator[Any]:
        return batches(self.num_items, count=MEMORY_STEPS, seed=self.seed)


def memory(num_ranks: int) -> dict[str, Any]:
    """A short training by Lightning; peak resident memory of this rank."""
    import pytorch_lightning as pl

    from recsys.parallel.strategy import ddp
    from recsys.parallel.tables import tables_of

    trained = module(SIZES[-1])
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=num_ranks,
        strategy=ddp(),
        max_steps=MEMORY_STEPS,
        gradient_clip_val=1.0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
    )
    seed = int(os.environ["RANK"])
    trainer.fit(trained, torch.utils.data.DataLoader(_Stream(SIZES[-1], seed), batch_size=None))
    tables = tables_of(trained).values()
    held = sum(t.weight_ND.nbytes + sum(s.nbytes for s in t.state.values()) for t in tables)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    loss = float(trainer.callback_metrics["train/loss"])
    return {"steps": trainer.global_step, "table_bytes": held, "peak_bytes": peak, "loss": loss}


def on_ranks(num_ranks: int, case: str) -> list[dict[str, Any]]:
    """This program as that many ranks; what each of them prints last."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(num_ranks):
        settings = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(num_ranks),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "NODE_RANK": "0",
            "GROUP_RANK": "0",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, __file__, "--case", case]
        started.append(
            subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.PIPE, text=True)
        )
    said = [process.communicate()[0] for process in started]
    assert all(process.returncode == 0 for process in started), said
    return [json.loads(lines.splitlines()[-1]) for lines in said]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=["times", "memory"])
    case = parser.parse_args().case
    if case:
        kept = step_times() if case == "times" else memory(int(os.environ["WORLD_SIZE"]))
        print(json.dumps(kept), flush=True)
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        return
    figures: dict[str, float] = {}
    times = on_ranks(2, "times")[0]["times_s"]
    for size in SIZES:
        figures[f"step_ms_{size}"] = round(1e3 * float(np.median(times[str(size)])), 1)
        print(f"{size:>12,} rows: {figures[f'step_ms_{size}']:8.1f} ms a step (median)")
    ratio = np.array(times[str(SIZES[-1])]) / np.array(times[str(SIZES[0])])
    figures["step_growth"] = round(figures[f"step_ms_{SIZES[-1]}"] / figures[f"step_ms_{SIZES[0]}"], 3)
    figures["step_growth_paired_median"] = round(float(np.median(ratio)), 3)
    for num_ranks in (2, 1):
        ranks = on_ranks(num_ranks, "memory")
        for name in ("table_bytes", "peak_bytes"):
            most = max(rank[name] for rank in ranks) / 2**30
            figures[f"{name[:-6]}_gib_per_rank_on_{num_ranks}"] = round(most, 2)
        together = sum(rank["peak_bytes"] for rank in ranks) / 2**30
        figures[f"peak_gib_together_on_{num_ranks}"] = round(together, 2)
        print(f"{SIZES[-1]:,} rows x {WIDTH} on {num_ranks} ranks: {together:.1f} GiB in all at the most")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
