"""How many devices and nodes a run has: Slurm's numbers where it started the run, else this machine's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from recsys.schema import InputError

AUTO = "auto"


def allotted(trainer: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """`devices` and `num_nodes` for a trainer whose settings say `auto`; others are left as they are.

    One task a device: under srun the tasks of a node are its devices. Raises InputError where nodes have
    different numbers of tasks.
    """
    wanted = {name: trainer.get(name) for name in ("devices", "num_nodes")}
    if "SLURM_STEP_ID" not in environment or "SLURM_PROCID" not in environment:
        return {"num_nodes": 1} if wanted["num_nodes"] == AUTO else {}
    nodes = int(environment["SLURM_STEP_NUM_NODES"])
    tasks = int(environment["SLURM_STEP_NUM_TASKS"])
    if tasks % nodes:
        raise InputError(
            f"{tasks} tasks on {nodes} nodes: every node needs as many; submit with --ntasks-per-node"
        )
    found = {"devices": tasks // nodes, "num_nodes": nodes}
    return {name: found[name] for name, value in wanted.items() if value == AUTO}


def environment() -> list[SLURMEnvironment]:
    """The plugin for a trainer whose ranks srun started. Lightning's own would answer SIGUSR1 too, with
    a file that nothing here goes on from.
    """
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return []
    return [SLURMEnvironment(auto_requeue=False)]
