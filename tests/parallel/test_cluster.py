"""Devices and nodes are Slurm's where the settings leave them open."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytorch_lightning.plugins.environments import SLURMEnvironment

from recsys.commands.train import _trainer
from recsys.parallel.cluster import Launched, allotted, environment, launched
from recsys.schema import InputError
from tests import tiny
from tests.test_configs import composed

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


def test_ranks_are_those_of_torchrun_or_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
    assert launched(torchrun) == launched(STEP | torchrun) == Launched(1, 4, "node1", 29500)
    for name, value in {"MASTER_ADDR": "node2", "MASTER_PORT": "15007"}.items():
        monkeypatch.setenv(name, value)
    assert launched(STEP) == Launched(3, 16, "node2", 15007)
    assert launched({}) is None
    assert launched({"SLURM_PROCID": "0", "SLURM_NTASKS": "16"}) is None, "in an sbatch file"


def test_a_rank_beyond_the_others_is_refused() -> None:
    torchrun = {"RANK": "4", "WORLD_SIZE": "4", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
    with pytest.raises(InputError, match="RANK=4 of WORLD_SIZE=4"):
        launched(torchrun)


def test_only_this_project_answers_slurms_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning would have its own file saved, and the job requeued a second time."""
    monkeypatch.chdir(tmp_path)
    assert environment() == []
    for name, value in {"NTASKS": "1", "JOB_NAME": "train", "JOB_ID": "7", "PROCID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    for name in ("LOCALID", "NODEID"):
        monkeypatch.setenv(f"SLURM_{name}", "0")
    overrides = [o for o in tiny.TRAIN_OVERRIDES if "progress" not in o]
    trainer = _trainer(composed("train", *overrides), logged={})
    chosen = trainer._accelerator_connector.cluster_environment
    assert isinstance(chosen, SLURMEnvironment)
    assert not chosen.auto_requeue
