"""Worlds of conf/world/, and changes to them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from recsys.entry import conf_dir
from recsys.settings import read_settings
from recsys.simulator.market import Day, Market, Policy
from recsys.simulator.policies import Slate
from recsys.simulator.world import WorldConfig


def load_world(name: str = "default", **groups: dict[str, Any]) -> WorldConfig:
    """The world of that name, with settings of some groups replaced."""
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        given = OmegaConf.to_container(compose("simulate", overrides=[f"world={name}"]), resolve=True)[
            "world"
        ]
    world = read_settings(WorldConfig, given, where="world")
    changed = {group: dataclasses.replace(getattr(world, group), **new) for group, new in groups.items()}
    return dataclasses.replace(world, **changed)


def slate(item_BK: np.ndarray) -> Slate:
    """Slates that somebody made up."""
    return Slate(item_BK, np.zeros(item_BK.shape, np.float32), np.ones(item_BK.shape))


def run(market: Market, policy: Policy, num_days: int) -> list[Day]:
    return [market.day(policy) for _ in range(num_days)]
