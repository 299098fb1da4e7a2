"""Settings that cannot be used end in one line that names them, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from recsys.commands.train import _trainer
from recsys.entry import conf_dir
from tests import tiny


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.width=abc", "error: model.width must be of type int, not 'abc'"),
        ("data.samples.max_length=2.5", "error: data.samples.max_length must be of type int, not 2.5"),
        ("optimizer.lr=-1", "error: optimizer.lr=-1 does not fit; it must be above 0"),
        ("trainer.max_epochs=abc", "error: trainer.max_epochs must be of type int, not 'abc'"),
        ("+objective.beauty=1", "error: objective.beauty is not a setting; known are items,"),
        (
            "dataset=ml_1m",
            "error: features/ml_1m/latest does not exist; run `python -m spark_jobs dataset=ml_1m",
        ),
    ],
)
def test_a_setting_of_the_wrong_type_or_name(tmp_path: Path, override: str, message: str) -> None:
    done = tiny.run("-m", "recsys", "train", override, "logger.wandb=null", cwd=tmp_path, code=2)
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "models").exists()


def test_a_trainer_that_is_not_there(tiny_tables: Path, tiny_root: Path) -> None:
    overrides = ("name=moon", *tiny.TRAIN_OVERRIDES, "trainer.accelerator=moon")
    done = tiny.run("-m", "recsys", "train", *overrides, cwd=tiny_root, code=2)
    assert done.stderr.splitlines()[-1].startswith("error: trainer: ")
    assert "moon" in done.stderr.splitlines()[-1]
    assert not (tiny_root / "models" / "online_retail" / "moon").exists()


@pytest.mark.parametrize(("overrides", "num_kept"), [((), 1), (("callbacks.checkpoint=null",), 0)])
def test_only_checkpoints_of_the_settings_are_kept(
    tmp_path: Path, overrides: tuple[str, ...], num_kept: int
) -> None:
    """Lightning would add some of its own, which nothing goes on from."""
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose("train", [*overrides, "logger.wandb=null", f"output_dir={tmp_path}"])
    assert len(_trainer(config, logged={}).checkpoint_callbacks) == num_kept


def test_a_bundle_that_learned_past_the_cut_is_no_start_and_has_no_figures(
    tiny_bundle: Path, tiny_root: Path
) -> None:
    """It was fitted up to the test cut."""
    overrides = ("name=leak", *tiny.TRAIN_OVERRIDES, "fit_until=validation", f"warm_start={tiny_bundle}")
    refused = tiny.run("-m", "recsys", "train", *overrides, cwd=tiny_root, code=2).stderr.splitlines()[-1]
    assert refused.startswith(f"error: warm_start={tiny_bundle}: the model has learned until ")
    assert "train: fit_until=test" in refused
    assert not (tiny_root / "models" / "online_retail" / "leak").exists()
    overrides = ("dataset=online_retail", "bundle=tiny", "split=validation", "output_dir=leak")
    refused = tiny.run("-m", "recsys", "evaluate", *overrides, cwd=tiny_root, code=2).stderr.splitlines()[-1]
    assert refused.startswith("error: the model has learned until ")
    assert not (tiny_root / "leak" / "metrics.json").exists()
