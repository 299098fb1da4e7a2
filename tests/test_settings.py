"""Settings are typed and bounded: what cannot be meant ends in one line that names it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from recsys.build import ModelSettings
from recsys.commands.recommend import RecommendSettings
from recsys.commands.train import TrainSettings
from recsys.data.datamodule import DataSettings
from recsys.data.plan import PlanConfig
from recsys.data.sample_config import SampleConfig
from recsys.module import ObjectiveConfig
from recsys.schema import InputError
from recsys.settings import check_arguments, check_range, read_own, read_settings
from recsys.training import AdamW, WarmupCosine

FOLDERS = {f"{name}_dir": name for name in ("features", "models", "cache", "output")}
TRAIN = {"name": "run", "version": "latest", "fit_until": "test", "seed": 0, **FOLDERS}
RECOMMEND = {"version": "latest", "bundle": "b", "at": "test", "top_k": 5, "show_names": True}
RECOMMEND |= {"chunk_users": 8, **FOLDERS}


@dataclass(frozen=True, kw_only=True)
class Own:
    seed: int
    name: str = "run"


def test_a_commands_own_settings_are_read_from_beside_its_groups() -> None:
    assert read_own(Own, {"seed": 3, "model": {"width": 8}}) == Own(seed=3)
    with pytest.raises(InputError, match=r"^seed must be of type int, not 'x'$"):
        read_own(Own, {"seed": "x"})
    with pytest.raises(InputError, match=r"^seed is missing"):
        read_own(Own, {"name": "a"})


def test_bounds_are_kept_and_said() -> None:
    check_range("x", 0, least=0, below=1)
    check_range("x", 1.0, above=0, most=1)
    for value, bounds, message in (
        (-1, {"least": 0}, "x=-1 does not fit; it must be at least 0"),
        (1, {"least": 0, "below": 1}, "x=1 does not fit; it must be at least 0 and below 1"),
        (0, {"above": 0}, "x=0 does not fit; it must be above 0"),
        (2, {"most": 1}, "x=2 does not fit; it must be at most 1"),
        (math.nan, {}, "x=nan does not fit; it must be finite"),
        (math.inf, {"least": 0}, "x=inf does not fit"),
        ("a", {}, "x must be a number, not 'a'"),
        (True, {}, "x must be a number, not True"),
    ):
        with pytest.raises(InputError, match=f"^{message}"):
            check_range("x", value, **bounds)  # type: ignore[arg-type]


def test_arguments_are_of_the_types_that_the_parameters_declare() -> None:
    def target(*, steps: int | None, share: float, either: int | str, warn: bool | Literal["w"]) -> None: ...

    given = {"steps": None, "share": 1, "either": "a", "warn": "w", "unknown": 1}
    check_arguments(target, given, where="t")
    for change, message in (
        ({"steps": "abc"}, "t.steps must be of type int, not 'abc'"),
        ({"steps": 1.5}, "t.steps must be of type int"),
        ({"share": True}, "t.share must be of type float"),
        ({"either": 1.5}, "t.either must be of type int or str"),
    ):
        with pytest.raises(InputError, match=message):
            check_arguments(target, given | change, where="t")


@pytest.mark.parametrize(
    ("cls", "given", "message"),
    [
        (ModelSettings, {"dropout": 1.5}, "model.dropout=1.5"),
        (ModelSettings, {"num_heads": 0}, "model.num_heads=0"),
        (ModelSettings, {"temperature": 0.0}, "model.temperature=0.0"),
        (ModelSettings, {"num_neighbours": -1}, "model.num_neighbours=-1"),
        (PlanConfig, {"multiple": 0}, "data.plan.multiple=0"),
        (PlanConfig, {"tokens": 0}, "data.plan.tokens=0"),
        (PlanConfig, {"seed": -1}, "data.plan.seed=-1"),
        (SampleConfig, {"target_window_days": 0}, "data.samples.target_window_days=0"),
        (SampleConfig, {"recency_half_life_days": -1.0}, "data.samples.recency_half_life_days=-1.0"),
        (DataSettings, {"num_workers": -1}, "data.num_workers=-1"),
        (DataSettings, {"plan": {"block": 0}}, "data.plan.block=0"),
        (ObjectiveConfig, {"spend": -0.1}, "objective.spend=-0.1"),
        (ObjectiveConfig, {"label_smoothing": 1.0}, "objective.label_smoothing=1.0"),
        (TrainSettings, TRAIN | {"seed": -1}, "seed=-1"),
        (TrainSettings, TRAIN | {"seed": 2**32}, "seed=4294967296"),
        (TrainSettings, TRAIN | {"fit_until": "train"}, "fit_until=train is no split"),
        (TrainSettings, TRAIN | {"fit_until": "now"}, "fit_until=now is no split"),
        (RecommendSettings, RECOMMEND | {"at": "train"}, "at=train is no split with one cut"),
        (RecommendSettings, RECOMMEND | {"top_k": 0}, "top_k=0 recommends nothing"),
        (RecommendSettings, RECOMMEND | {"chunk_users": 0}, "chunk_users=0 does not fit"),
    ],
)
def test_what_lies_outside_its_bounds_is_named(cls: type, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        read_settings(cls, given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": -1}, "optimizer.lr=-1 does not fit; it must be above 0"),
        ({"lr": "fast"}, "optimizer.lr must be a number, not 'fast'"),
        ({"lr": 0.1, "weight_decay": -1}, "optimizer.weight_decay=-1"),
        ({"lr": 0.1, "betas": [0.9, 1.0]}, "optimizer.betas=1.0"),
        ({"lr": 0.1, "betas": [0.9]}, "optimizer.betas must be a pair"),
    ],
)
def test_an_optimizer_that_cannot_step_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AdamW(**given)


def test_a_schedule_that_cannot_be_followed_is_refused() -> None:
    with pytest.raises(InputError, match=r"scheduler.warmup_steps=-1"):
        WarmupCosine(warmup_steps=-1)
    with pytest.raises(InputError, match=r"scheduler.floor=2"):
        WarmupCosine(floor=2)
