"""Devices and nodes are Slurm's where the settings leave them open."""

from __future__ import annotations

import pytest

from recsys.parallel.cluster import allotted
from recsys.schema import InputError

OPEN = {"devices": "auto", "num_nodes": "auto"}
STEP = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "16"}


def test_under_srun_a_task_is_a_device() -> None:
    assert allotted(OPEN, STEP) == {"devices": 8, "num_nodes": 2}
    assert allotted({"devices": 1, "num_nodes": "auto"}, STEP) == {"num_nodes": 2}
    assert allotted({"devices": 1}, STEP) == {}


def test_elsewhere_it_is_one_node_and_the_trainer_counts_devices() -> None:
    assert allotted(OPEN, {}) == {"num_nodes": 1}
    assert allotted(OPEN, {"SLURM_JOB_ID": "7"}) == {"num_nodes": 1}, "in a job, but not started by srun"


def test_uneven_nodes_are_refused() -> None:
    with pytest.raises(InputError, match="15 tasks on 2 nodes"):
        allotted(OPEN, STEP | {"SLURM_STEP_NUM_TASKS": "15"})
