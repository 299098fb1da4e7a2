"""Bytes a GPU holds under each layout, the fullest rank's. What DeepSpeed keeps was read off running ranks.

Legend: n parameters in the engine, W ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from recsys.nn.user_model import NUM_POPULARITY, UserModelConfig
from recsys.parallel.planner.activations import peak_bytes
from recsys.parallel.planner.layout import Layout, Run
from recsys.parallel.planner.model_size import ModelSize
from recsys.parallel.planner.sizes import TableSizes, Workload

ADAM_BYTES = 8  # two float32 moments
MASTER_BYTES = 4
STEP_BYTES = 4  # torch's step counter, one a tensor
ALIGNMENT = 2  # elements a rank, stages 1 and 2
PERSISTENT = (
    100_000  # elements up to which ZeRO-3 keeps a parameter whole (stage3_param_persistence_threshold)
)
REDUCE_BUCKET = 200_000_000  # elements; Lightning's setting of DeepSpeed, allocated as a whole
MAX_LIVE = 1_000_000_000  # elements ZeRO-3 keeps gathered (stage3_max_live_parameters)


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU. `table` is the shard of sharded tables; replicated ones are in the first three."""

    parameters: int
    gradients: int
    optimizer: int
    table: int
    activations: int
    catalogue: int
    buffers: int  # reduction buckets, gathered layers, fixed buffers of the model

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))


def memory(
    layout: Layout,
    *,
    run: Run,
    size: ModelSize,
    config: UserModelConfig,
    sizes: TableSizes,
    work: Workload,
) -> Memory:
    """What a GPU holds at its fullest moment, in the middle of backward."""
    shapes = size.shapes if layout.tables == "replicated" else size.dense()
    parameters, gradients, optimizer = engine_bytes(shapes, layout.stage, run)
    activation_bytes = run.precision.activation_bytes
    return Memory(
        parameters=parameters,
        gradients=gradients,
        optimizer=optimizer,
        table=shard_bytes(size, run, work) if layout.tables == "sharded" else 0,
        activations=peak_bytes(config, work, activation_bytes=activation_bytes, fused=True),
        catalogue=catalogue_bytes(sizes, work),
        buffers=size.buffer_bytes + _buckets(shapes, layout.stage, run),
    )


def engine_bytes(shapes: Mapping[str, tuple[int, ...]], stage: int, run: Run) -> tuple[int, int, int]:
    """Parameters, gradients and optimizer of what DDP or DeepSpeed trains with AdamW.

    Matrices and the rest are two groups, each padded and cut into W stretches (stages 1 and 2). A rank keeps
    the whole gradient of a parameter that reaches into its stretch. Stage 3 cuts every parameter by itself.
    """
    weight_bytes, W = run.precision.weight_bytes(stage), run.num_gpus
    counts = [math.prod(shape) for shape in shapes.values()]
    n = sum(counts)
    if stage == 0:
        return weight_bytes * n, weight_bytes * n, ADAM_BYTES * n + STEP_BYTES * len(counts)
    if stage == 3:
        share = sum(_padded(count, W) // W for count in counts)
        whole = sum(count for count in counts if count <= PERSISTENT)
        return weight_bytes * (share + whole), weight_bytes * share, (MASTER_BYTES + ADAM_BYTES) * share
    groups = [
        [math.prod(s) for s in shapes.values() if len(s) >= 2],
        [math.prod(s) for s in shapes.values() if len(s) < 2],
    ]
    padded = [_padded(sum(group), ALIGNMENT * W) for group in groups]
    if stage == 1 and run.accumulate > 1:
        gradients = n  # all of them are kept until the last micro batch
    else:
        gradients = max(map(sum, zip(*(_reaching(group, W) for group in groups), strict=True)))
    return (
        weight_bytes * sum(padded),
        weight_bytes * gradients,
        (MASTER_BYTES + ADAM_BYTES) * sum(padded) // W,
    )


def shard_bytes(size: ModelSize, run: Run, work: Workload) -> int:
    """Rows of the item tables on a rank, their optimizer state, and the gradients of the rows of a step."""
    rows, columns = _padded(size.table_rows, run.num_gpus) // run.num_gpus, size.table_columns
    state = (
        rows * {"rowwise_adagrad": 4 * 2, "sparse_adam": ADAM_BYTES * columns, "sgd": 0}[run.table_optimizer]
    )
    touched = work.candidates * columns * 4 * 2 + work.candidates * 8  # asked for here, and asked of others
    return 4 * rows * columns + state + touched


def catalogue_bytes(sizes: TableSizes, work: Workload) -> int:
    """Content of the items a step looks at, which the batch brings where they are not all: indices, numbers,
    padded words and dated popularity.
    """
    item = 8 * (1 + len(sizes.field_sizes) + sizes.words_per_item) + 1
    item += 4 * (sizes.num_numeric + NUM_POPULARITY * min(sizes.num_periods, work.queries))
    return item * work.candidates


def _buckets(shapes: Mapping[str, tuple[int, ...]], stage: int, run: Run) -> int:
    """DDP copies the gradients into buckets; stages 1 and 2 fill two buckets in turn, stage 3 one, beside the
    layers it has gathered.
    """
    weight_bytes = run.precision.weight_bytes(stage)
    n = sum(map(math.prod, shapes.values()))
    if stage == 0:
        return weight_bytes * n if run.num_gpus > 1 else 0
    if stage in (1, 2):
        return weight_bytes * 2 * REDUCE_BUCKET
    return weight_bytes * (REDUCE_BUCKET + min(n, MAX_LIVE))


def _reaching(counts: list[int], num_ranks: int) -> Iterable[int]:
    """By rank, elements of the parameters that reach into its stretch of the group."""
    stretch = _padded(sum(counts), ALIGNMENT * num_ranks) // num_ranks
    kept, begin = [0] * num_ranks, 0
    for count in counts:
        for rank in range(begin // stretch, (begin + count - 1) // stretch + 1):
            kept[rank] += count
        begin += count
    return kept


def _padded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
