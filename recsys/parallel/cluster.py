"""What started a run: how many devices, nodes and ranks it has by Slurm's numbers, or by torchrun's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from recsys.schema import InputError

AUTO = "auto"


class Launched(NamedTuple):
    """This process among those that were started with it; where the first one is listens for the others."""

    rank: int
    world: int
    address: str
    port: int


def launched(environment: Mapping[str, str] = os.environ) -> Launched | None:
    """By torchrun's variables, or those of a step of srun's; None for a process by itself.

    Raises InputError for a rank that is none of torchrun's, whose variables may be set by hand.
    """
    if {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= environment.keys():
        rank, world, port = (int(environment[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
        if not 0 <= rank < world:
            raise InputError(f"RANK={rank} of WORLD_SIZE={world}: ranks run from 0 to WORLD_SIZE - 1")
        return Launched(rank, world, environment["MASTER_ADDR"], port)
    if _in_step(environment):
        rank, world = int(environment["SLURM_PROCID"]), int(environment["SLURM_STEP_NUM_TASKS"])
        slurm = SLURMEnvironment(auto_requeue=False)
        return Launched(rank, world, slurm.main_address, slurm.main_port)
    return None


def allotted(trainer: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """`devices` and `num_nodes` for a trainer whose settings say `auto`; others are left as they are.

    One task a device: under srun the tasks of a node are its devices. Raises InputError where nodes have
    different numbers of tasks.
    """
    wanted = {name: trainer.get(name) for name in ("devices", "num_nodes")}
    if not _in_step(environment):
        return {"num_nodes": 1} if wanted["num_nodes"] == AUTO else {}
    nodes = int(environment["SLURM_STEP_NUM_NODES"])
    tasks = int(environment["SLURM_STEP_NUM_TASKS"])
    if tasks % nodes:
        raise InputError(
            f"{tasks} tasks on {nodes} nodes: every node needs as many; submit with --ntasks-per-node"
        )
    found = {"devices": tasks // nodes, "num_nodes": nodes}
    return {name: found[name] for name, value in wanted.items() if value == AUTO}


def _in_step(environment: Mapping[str, str]) -> bool:
    """Whether srun started this process; an sbatch file has some of its variables, too."""
    return "SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment


def environment() -> list[SLURMEnvironment]:
    """The plugin for a trainer whose ranks srun started. Lightning's own would answer SIGUSR1 too, with
    a file that nothing here goes on from.
    """
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return []
    return [SLURMEnvironment(auto_requeue=False)]
