"""Growing keeps every item's vector and the scores of all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recsys.bundle import load_bundle, save_bundle
from tests import tiny
from tests.nn.small_model import catalogue, histories
from tests.test_bundle import bundle


def test_a_bundle_grows(tmp_path: Path) -> None:
    models = tmp_path / "models" / "online_retail"
    save_bundle(bundle(), models / "demo")
    done = tiny.run("-m", "recsys", "reshard", "bundle=demo", "capacity=20", cwd=tmp_path)
    assert done.stdout == "models/online_retail/demo-20: room for 20 items\n"
    before, after = load_bundle(models / "demo"), load_bundle(models / "demo-20")
    assert after.model.config.item_tower.capacity == 20
    assert after.model.item_tower.lookup.rows(0, 30).shape == (21, 8)
    assert torch.equal(*(b.model.item_tower.lookup.rows(0, 9) for b in (before, after)))
    assert torch.equal(*(b.model(histories(), catalogue()).item_VS for b in (before, after)))
    assert after.item_ids == before.item_ids


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("bundle=demo", "capacity=8"),
            "error: capacity=8 is no growth: the bundle has 8",
        ),
        (("bundle=demo", "capacity=abc"), "error: capacity must be of type int, not 'abc'"),
        (("bundle=demo", "capacity=1e5"), "error: capacity must be of type int, not 100000.0"),
        (("bundle=demo",), "error: Missing mandatory value: capacity"),
        (("bundle=demo", "capacity=9", "name=demo"), "error: models/online_retail/demo is there already"),
    ],
)
def test_what_cannot_grow_is_said(tmp_path: Path, overrides: tuple[str, ...], message: str) -> None:
    save_bundle(bundle(), tmp_path / "models" / "online_retail" / "demo")
    done = tiny.run("-m", "recsys", "reshard", *overrides, cwd=tmp_path, code=2)
    assert done.stderr.startswith(message)
