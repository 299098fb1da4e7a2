"""Every file in conf/ composes, and what it names can be built and called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from recsys.build import ModelSettings
from recsys.data.plan import PlanConfig
from recsys.data.sample_config import SampleConfig
from recsys.entry import conf_dir
from recsys.market_run import SimulateSettings
from recsys.module import ObjectiveConfig
from recsys.parallel.cluster import allotted
from recsys.parallel.planner.cluster import Cluster
from recsys.policy.dial import DialConfig
from recsys.policy.slates import PolicyConfig
from recsys.promotion import PromotionRules
from recsys.settings import check_arguments, read_own, read_settings
from recsys.simulator.world import WorldConfig
from spark_jobs.settings import JobSettings

CONF = Path(conf_dir())
NAMED_SETTING = re.compile(
    r"(?<![\w/.])((?:callbacks|data|logger|model|objective|optimizer|trainer)(?:\.[a-z_]+)+)(?:=([\w.-]+))?"
)
COMMANDS = sorted(path.stem for path in CONF.glob("*.yaml"))
OPTIONS = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml"))
USED_BY = {  # the command through which a group is composed
    "callbacks": "train",
    "cluster": "plan",
    "data": "train",
    "dial": "train",
    "dataset": "spark_jobs",
    "experiment": "train",
    "logger": "train",
    "model": "train",
    "objective": "train",
    "optimizer": "train",
    "policy": "recommend",
    "quality": "spark_jobs",
    "scheduler": "train",
    "trainer": "train",
    "world": "simulate",
}
SETTINGS = {
    "cluster": Cluster,
    "dial": DialConfig,
    "model": ModelSettings,
    "objective": ObjectiveConfig,
    "policy": PolicyConfig,
    "world": WorldConfig,
}


def composed(command: str, *overrides: str) -> DictConfig:
    """As in the first run of a sweep, where Hydra's own settings are looked at."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = compose(command, overrides=["hydra.job.num=0", *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(hydra)
        return compose(command, overrides=list(overrides))


def plain(config: Any) -> dict[str, Any]:
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes_and_resolves(command: str) -> None:
    needs = ["dataset=online_retail"] if command in ("feedback", "promote") else []
    settings = plain(composed(command, *needs))
    if command == "simulate":
        read_own(SimulateSettings, settings)
        return
    assert settings["dataset"]["name"] == "online_retail"
    if command == "spark_jobs":
        read_settings(JobSettings, settings)
    if command == "promote":
        PromotionRules(**settings["rules"])


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_builds_what_it_names(group: str, option: str, tmp_path: Path) -> None:
    assert group in USED_BY, f"say in USED_BY which command composes conf/{group}/"
    config = (
        composed(USED_BY[group], f"{group}={option}", f"output_dir={tmp_path}")
        if USED_BY[group] != "spark_jobs"
        else composed("spark_jobs", f"{group}={option}")
    )
    settings = plain(config)
    if USED_BY[group] == "spark_jobs":
        read_settings(JobSettings, settings)
    elif group in SETTINGS:
        read_settings(SETTINGS[group], settings[group])
    elif group in ("data", "experiment"):
        read_settings(SampleConfig, settings["data"]["samples"])
        read_settings(PlanConfig, settings["data"]["plan"])
        read_settings(ModelSettings, settings["model"])
        read_settings(ObjectiveConfig, settings["objective"])
    elif group in ("optimizer", "scheduler"):
        build_optimizer_and_scheduler(config)
    elif group == "trainer":
        counts = allotted(settings["trainer"])
        trainer = instantiate(
            config.trainer, logger=False, default_root_dir=str(tmp_path), _convert_="all", **counts
        )
        assert trainer(callbacks=[]).max_epochs == config.trainer.max_epochs
    else:
        parts = [instantiate(part, _convert_="all") for part in config[group].values() if part]
        assert parts


def build_optimizer_and_scheduler(config: DictConfig) -> None:
    """Both factories are called, and the schedule starts below and ends far below the learning rate."""
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = instantiate(config.optimizer, _convert_="all")([{"params": [weight]}])
    schedule = instantiate(config.scheduler, _convert_="all")(optimizer, 100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(config.optimizer.lr)
    assert rates[0] < max(rates)
    assert rates[-1] < 0.1 * max(rates)


def test_every_target_in_the_training_config_is_covered() -> None:
    """A `_target_` outside the groups built above would be built by nobody's test."""
    config = plain(composed("train"))
    built = {"callbacks", "logger", "optimizer", "scheduler", "trainer"}

    def targets(node: Any) -> bool:
        return isinstance(node, dict) and ("_target_" in node or any(targets(v) for v in node.values()))

    assert {name for name, node in config.items() if targets(node)} == built


def overrides_in_docs() -> dict[str, set[str]]:
    """The settings of training that the documents name, and the values they give them."""
    named: dict[str, set[str]] = {}
    for document in ("README.md", "docs/scaling.md", "slurm/README.md"):
        text = (CONF.parent / document).read_text().replace(".\n", ".")  # some names go over two lines
        for name, value in NAMED_SETTING.findall(text):
            named.setdefault(name, set()).update({value} - {""})
    return named


@pytest.mark.parametrize("size", [option for group, option in OPTIONS if group == "model"])
@pytest.mark.parametrize("strategy", ["zero2", "zero3"])
def test_what_the_documents_name_composes_with_every_model(size: str, strategy: str) -> None:
    named = overrides_in_docs()
    if strategy != "zero3":
        del named["trainer.strategy.offload_parameters"]
    assert {"trainer.accumulate_grad_batches", "trainer.max_steps", "model.table"} <= named.keys()
    groups = (f"model={size}", f"trainer={strategy}")
    before = composed("train", *groups)
    for name, values in named.items():
        kept = OmegaConf.select(before, name, throw_on_missing=True)
        if OmegaConf.is_config(kept) and not values:
            continue  # a whole group, which a document only speaks of
        for value in values or {str(kept).lower() if kept is not None else "null"}:
            settings = plain(composed("train", *groups, f"{name}={value}"))
            read_settings(ModelSettings, settings["model"])
            trainer = settings["trainer"] | allotted(settings["trainer"])
            check_arguments(pl.Trainer.__init__, trainer, where="trainer")


def test_output_folders_are_kept_apart_by_data_set() -> None:
    assert composed("train").output_dir == "outputs/online_retail/run"
    assert composed("train", "dataset=ml_1m").output_dir == "outputs/ml_1m/run"
    assert composed("train", "experiment=demo").output_dir == "outputs/demo"
    assert composed("train", "experiment=demo", "name=seed1").output_dir == "outputs/seed1"


def test_switched_off_parts_compose() -> None:
    config = composed("train", "logger.wandb=null", "~callbacks.progress")
    assert config.logger.wandb is None
    assert "progress" not in config.callbacks
