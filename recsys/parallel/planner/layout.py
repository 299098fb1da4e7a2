"""Ways to lay a model out over GPUs: what each rank keeps of the dense tower and of the item tables."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.schema import InputError

STAGES = (0, 1, 2, 3)  # 0: DDP, every rank keeps all
TABLES = ("replicated", "sharded")
TABLE_OPTIMIZERS = ("rowwise_adagrad", "sparse_adam", "sgd")


@dataclass(frozen=True)
class Layout:
    """`tables`: replicated with the dense tower, or each rank a share of the rows, outside the engine."""

    stage: int
    tables: str

    @property
    def name(self) -> str:
        return f"{f'ZeRO-{self.stage}' if self.stage else 'DDP'}, {self.tables} tables"


LAYOUTS = tuple(Layout(stage, tables) for tables in TABLES for stage in STAGES)


@dataclass(frozen=True)
class Precision:
    """Bytes of one number. DeepSpeed keeps weights in the precision of the run and a float32 copy of them in
    the optimizer; DDP keeps float32 weights and computes in the precision of the run.
    """

    name: str
    activation_bytes: int

    @classmethod
    def of(cls, name: str) -> Precision:
        known = {"32-true": 4, "bf16-mixed": 2}
        if name not in known:
            raise InputError(f"precision={name} cannot be planned; choose one of {', '.join(known)}")
        return cls(name, known[name])

    def weight_bytes(self, stage: int) -> int:
        return 4 if stage == 0 else self.activation_bytes


@dataclass(frozen=True, kw_only=True)
class Run:
    """How many GPUs, in what precision, and how tables are stepped.

    accumulate: micro batches of a step.
    """

    num_gpus: int
    gpus_per_node: int
    precision: Precision
    accumulate: int = 1
    table_optimizer: str = "rowwise_adagrad"

    def __post_init__(self) -> None:
        if self.table_optimizer not in TABLE_OPTIMIZERS:
            raise InputError(f"model.table_optimizer must be one of {', '.join(TABLE_OPTIMIZERS)}")
        if min(self.num_gpus, self.gpus_per_node, self.accumulate) < 1:
            raise InputError("a run needs at least one GPU and one micro batch a step")

    @property
    def others(self) -> float:
        """Share of the ranks that are not this one."""
        return (self.num_gpus - 1) / self.num_gpus

    @property
    def others_between(self) -> float:
        """Share of the ranks that are on other nodes."""
        return max(0.0, 1 - self.gpus_per_node / self.num_gpus)
