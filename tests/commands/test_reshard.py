"""Growing keeps every item's vector and the scores of all, in a bundle and in a checkpoint's tables."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp

from recsys.bundle import load_bundle, save_bundle
from recsys.parallel.tables.growth import grow_tables
from recsys.parallel.tables.layout import RowLayout
from recsys.schema import InputError
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
        (("capacity=9",), "error: name what is to grow: bundle=NAME or checkpoint=PATH"),
        (("checkpoint=last.ckpt", "capacity=9"), "error: last.ckpt has no sharded tables beside it"),
    ],
)
def test_what_cannot_grow_is_said(tmp_path: Path, overrides: tuple[str, ...], message: str) -> None:
    save_bundle(bundle(), tmp_path / "models" / "online_retail" / "demo")
    done = tiny.run("-m", "recsys", "reshard", *overrides, cwd=tmp_path, code=2)
    assert done.stderr.startswith(message)


def test_the_tables_of_a_checkpoint_grow(tmp_path: Path) -> None:
    vector_VD = torch.randn(11, 4)
    vector_VD[0] = 0
    layout = RowLayout(num_rows=11, world=1, rank=0)
    index = layout.index(torch.arange(11))
    saved = {
        "model.item_tower.lookup.weight": vector_VD[index],
        "model.item_tower.lookup.optimizer.sum": index.float(),
        "model.item_bias.weight": index.float()[:, None],
        "model.item_bias.optimizer.step": torch.tensor(3.0),
    }
    dcp.save(saved, checkpoint_id=tmp_path / "step-1", no_dist=True)
    grow_tables(tmp_path / "step-1", 16)
    grown = {name: torch.empty(17, *t.shape[1:]) if t.ndim else t for name, t in saved.items()}
    dcp.load(grown, checkpoint_id=tmp_path / "step-1", no_dist=True)
    row = RowLayout(num_rows=17, world=1, rank=0).row(torch.arange(17))
    lookup, sums, bias, step = (tensor[row] if tensor.ndim else tensor for tensor in grown.values())
    assert torch.equal(lookup[:11], vector_VD)
    assert lookup[11:].abs().min() > 0
    assert sums.tolist() == bias[:, 0].tolist() == [*range(11), *[0] * 6]
    assert step == 3
    with pytest.raises(InputError, match="capacity=16 is no growth"):
        grow_tables(tmp_path / "step-1", 16)
