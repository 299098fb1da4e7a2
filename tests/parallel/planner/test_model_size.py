"""Model sizes without memory: counts, shapes, and a step on meta that catches tensors left behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from recsys import module as training_module
from recsys.build import ModelSettings
from recsys.entry import conf_dir
from recsys.nn import user_model
from recsys.parallel.planner.model_size import model_size, on_meta
from recsys.parallel.planner.sizes import BatchSettings, TableSizes
from recsys.settings import read_settings
from tests.parallel.planner.meta_step import Shapes, meta_step
from tests.parallel.planner.step import planned

SIZES = TableSizes(num_items=100_000_000)
BATCH = BatchSettings(tokens_per_gpu=800)


def settings_of(name: str) -> ModelSettings:
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config: Any = OmegaConf.to_container(compose("plan", overrides=[f"model={name}"]).model, resolve=True)
    return read_settings(ModelSettings, config)


def planned_size(name: str) -> Any:
    return planned(sizes=SIZES, batch=BATCH, settings=settings_of(name), max_length=200, num_negatives=10_000)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("tiny", 1e5, 3e6), ("small", 3e6, 2e7), ("base", 7e7, 1.5e8), ("large_1b", 9.5e8, 1.1e9)],
)
def test_dense_parameters_of_each_size(name: str, least: float, most: float) -> None:
    size = model_size(planned_size(name)[0])
    assert least < size.num_dense < most
    assert size.table_rows == 120_000_001, "a fifth more than the items, and padding"


def test_blocks_of_the_largest_by_hand() -> None:
    """A block: 11 D^2 of matrices, biases of 3 + 1 + 1 + 4 + 1 widths, two norms."""
    config, _ = planned_size("large_1b")
    size, D = model_size(config), config.width
    in_blocks = sum(
        torch.Size(shape).numel() for name, shape in size.shapes.items() if name.startswith("blocks.")
    )
    assert in_blocks == 21 * (11 * 2048**2 + 12 * 2048)
    assert in_blocks == config.num_blocks * (11 * D * D + 12 * D)


@pytest.mark.parametrize("name", ["tiny", "large_1b"])
def test_a_step_on_meta_has_the_shapes_of_the_sizes(name: str) -> None:
    config, work = planned_size(name)
    D, S = config.width, config.score_width
    assert (work.rows, work.queries, work.candidates) == (4, 48, 1 + 10_000 + 4 * 200 + 48 * 8)
    assert meta_step(on_meta(config), sizes=SIZES, work=work) == Shapes(
        hidden_BLD=torch.Size([4, 201, D]),
        user_BLD=torch.Size([4, 201, D]),
        item_VS=torch.Size([11_185, S + 1]),
        base_QV=torch.Size([48, 11_185]),
        feature_QOR=torch.Size([48, work.own, 3 + 4 + 1]),
        payer_logit_BCH=torch.Size([4, 4, 3]),
    )


@pytest.mark.parametrize(
    ("place", "name"),
    [(user_model, "attend"), (training_module, "candidate_logits"), (training_module, "conversion_loss")],
    ids=["a block", "the items' loss", "a value head's loss"],
)
def test_a_tensor_left_on_the_processor_is_caught(
    monkeypatch: pytest.MonkeyPatch, place: Any, name: str
) -> None:
    real = getattr(place, name)

    def careless(tensor: Any, *rest: Any, **options: Any) -> torch.Tensor:
        said = real(tensor, *rest, **options)
        return said + torch.zeros(said.shape or (1,))

    config, work = planned_size("tiny")
    monkeypatch.setattr(place, name, careless)
    with pytest.raises(RuntimeError, match=r"meta.*cpu|cpu.*meta"):
        meta_step(on_meta(config), sizes=SIZES, work=work)
