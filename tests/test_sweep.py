"""What a sweep is told of a run, and how its front is shown."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from recsys.entry import conf_dir
from recsys.evaluation.quick import VIEWS
from recsys.schema import InputError
from recsys.sweep import Run, sweep_result, table_lines, write_front
from tests.tiny import ROOT

OBJECTIVES = ["ndcg", "gini"]


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.json"
    figures = {"ranking/aurm": {"value": 0.25}, "value/aurm": {"value": 0.5}, "empty/aurm": {"value": None}}
    path.write_text(json.dumps({"figures": figures}))
    return path


def runs() -> list[Run]:
    """The first two each win in one objective; the first beats the third."""
    return [
        Run(number=0, values=(0.1, 0.9), settings={"lr": 0.001, "width": 16}, in_front=True),
        Run(number=1, values=(0.3, 0.5), settings={"lr": 0.0123456, "width": 8}, in_front=True),
        Run(number=2, values=(0.1, 0.4), settings={"lr": 0.002, "width": 8}, in_front=False),
    ]


def test_one_figure_is_a_number_and_several_are_a_tuple(metrics: Path) -> None:
    assert sweep_result(metrics, ["ranking/aurm"]) == 0.25
    assert sweep_result(metrics, ["value/aurm", "ranking/aurm"]) == (0.5, 0.25)
    assert sweep_result(metrics, []) is None


@pytest.mark.parametrize("name", ["ranking", "empty/aurm"])
def test_a_figure_that_is_not_there(metrics: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"returns: {name} is not .* known are ranking/aurm"):
        sweep_result(metrics, [name])


def test_the_table_shows_the_front_best_first() -> None:
    assert table_lines(runs(), OBJECTIVES) == [
        "run  ndcg    gini    lr       width",
        "1    0.3000  0.5000  0.01235  8",
        "0    0.1000  0.9000  0.001    16",
    ]


def test_the_files_hold_every_run(tmp_path: Path) -> None:
    write_front(tmp_path, runs(), OBJECTIVES)
    with (tmp_path / "pareto.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["in_front"], row["gini"], row["width"]) for row in rows] == [
        ("0", "True", "0.9", "16"),
        ("1", "True", "0.5", "8"),
        ("2", "False", "0.4", "8"),
    ]
    page = (tmp_path / "pareto.html").read_text()
    assert "run 2" in page


def test_the_sweep_of_wandb_names_settings_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = yaml.safe_load((ROOT / "slurm" / "wandb_sweep.yaml").read_text())
    fixed = [part for part in sweep["command"] if "=" in part]
    tried = [
        f"{name}={space.get('min', space.get('values', [0])[0])}"
        for name, space in sweep["parameters"].items()
    ]
    monkeypatch.setenv("WANDB_RUN_ID", "abc")
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose("train", overrides=[*fixed, *tried])
    assert config.name == "wandb-abc"
    assert config.fit_until == "validation"  # else there is no figure to follow
    assert config.optimizer.lr == 0.0005
    assert sweep["metric"]["name"] in [f"validation/ndcg@10/{view}" for view in VIEWS]
