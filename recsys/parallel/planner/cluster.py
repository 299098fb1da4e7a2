"""What a cluster's makers say it can do, and the share of it seen in practice; conf/cluster/*.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.schema import InputError
from recsys.settings import check_range


@dataclass(frozen=True, kw_only=True)
class Attainable:
    """Shares of the stated rates that well-tuned programs reach."""

    compute: float
    memory: float
    within: float
    between: float

    def __post_init__(self) -> None:
        if not all(0 < share <= 1 for share in (self.compute, self.memory, self.within, self.between)):
            raise InputError("cluster.attainable: every share must lie in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Rates of one GPU, each way. `reserve_gb` is what the driver, libraries and fragments take."""

    name: str
    gpus_per_node: int
    memory_gb: float
    reserve_gb: float
    tflops_bf16: float
    tflops_fp32: float
    memory_gb_s: float
    within_gb_s: float
    between_gb_s: float
    attainable: Attainable
    sources: list[str]

    def __post_init__(self) -> None:
        if not self.sources:
            raise InputError(f"cluster {self.name} names no sources; say where its figures come from")
        check_range("cluster.gpus_per_node", self.gpus_per_node, least=1)
        check_range("cluster.reserve_gb", self.reserve_gb, least=0)
        for name in ("memory_gb", "tflops_bf16", "tflops_fp32", "memory_gb_s", "within_gb_s", "between_gb_s"):
            check_range(f"cluster.{name}", getattr(self, name), above=0)

    def flops_per_s(self, precision: str) -> float:
        return 1e12 * (self.tflops_fp32 if precision == "32-true" else self.tflops_bf16)
