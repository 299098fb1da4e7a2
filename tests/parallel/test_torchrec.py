"""TorchRec's table learns what ours learns, and refuses what it would do otherwise."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any
from unittest import mock

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy

from recsys.parallel.strategy import DdpWithTables
from recsys.parallel.tables import torchrec
from recsys.parallel.tables.optimizers import SGD, SparseAdam
from recsys.parallel.tables.torchrec import TorchRecTable, _sharded_module
from recsys.schema import InputError
from tests.parallel.ranks import on_ranks

HERE = "tests.parallel.table_training"
IS_HERE = importlib.util.find_spec("torchrec") is not None
needs_torchrec = pytest.mark.skipif(not IS_HERE, reason="no TorchRec; make setup-torchrec installs it")


def table(**changes: Any) -> TorchRecTable:
    settings: dict[str, Any] = {"num_rows": 9, "width": 8, "std": 0.1, "seed": 0, "optimizer": SGD(lr=0.1)}
    return TorchRecTable(**settings | changes)


@pytest.mark.skipif(IS_HERE, reason="TorchRec is installed")
def test_without_it_the_remedy_is_named() -> None:
    with pytest.raises(InputError, match=r"needs TorchRec and FBGEMM .* take model.table=sharded"):
        _sharded_module(table(), torch.device("cpu"))


def test_a_node_has_as_many_devices_as_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 ranks on 2 nodes: TorchRec places rows on device `rank % local_size` of a node."""
    asked, over_ranks = mock.MagicMock(spec=TorchRecTable, is_fused=True), mock.MagicMock()
    strategy = DdpWithTables(parallel_devices=[torch.device("cpu", i) for i in range(8)])
    strategy.num_nodes = 2
    monkeypatch.setattr(DDPStrategy, "setup_environment", lambda _: None)
    monkeypatch.setattr(DDPStrategy, "root_device", torch.device("cpu"))
    monkeypatch.setattr(DdpWithTables, "tables", {"lookup": asked})
    trainer = mock.Mock(precision="32-true", gradient_clip_val=None, accumulate_grad_batches=1)
    monkeypatch.setattr(strategy, "_lightning_module", mock.Mock(trainer=trainer))
    strategy.setup_environment()
    ((device,), given) = asked.allocate.call_args
    assert (device, given) == (torch.device("cpu"), {"node_ranks": 8})

    for name in ("torchrec", "torchrec.distributed", "fbgemm_gpu", "fbgemm_gpu.split_embedding_configs"):
        monkeypatch.setitem(sys.modules, name, mock.MagicMock())
    for name in ("embedding", "shard", "sharding_plan", "types"):
        monkeypatch.setitem(sys.modules, f"torchrec.distributed.{name}", over_ranks)
    monkeypatch.setattr(torchrec, "dist", mock.MagicMock(get_world_size=lambda: 16))
    _sharded_module(table(), device, **given)
    plan = over_ranks.construct_module_sharding_plan.call_args.kwargs
    assert (plan["local_size"], plan["world_size"]) == (8, 16)


@needs_torchrec
@pytest.mark.parametrize(
    ("changes", "said"),
    [({"width": 6}, "a model.width that 4 divides"), ({"optimizer": SparseAdam(lr=0.1)}, "no sparse Adam")],
)
def test_what_its_kernels_lack_is_said(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        _sharded_module(table(**changes), torch.device("cpu"))


CASES: dict[str, dict[str, Any]] = {
    f"{kind} {optimizer}": {"function": f"{HERE}:train", "table": kind, "optimizer": optimizer, "strategy": s}
    for kind in ("sharded", "torchrec")
    for optimizer, s in (("sgd", "ddp"), ("rowwise_adagrad", "zero2"))
}
CASES |= {
    "accumulated": {"function": f"{HERE}:refused_by_torchrec", "accumulate_grad_batches": 2},
    "clipped": {"function": f"{HERE}:refused_by_torchrec", "gradient_clip_val": 1.0},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("deepspeed")
    folder = tmp_path_factory.mktemp("torchrec")
    half = {"save": str(folder / "half.ckpt"), "save_at": 6}
    turned = {"half": CASES["torchrec rowwise_adagrad"] | half}
    turned["gone on by ours"] = CASES["sharded rowwise_adagrad"] | {"resume": str(folder / "half.ckpt")}
    cases = CASES | turned
    return dict(zip(cases, on_ranks(2, list(cases.values()), folder), strict=True))


@needs_torchrec
@pytest.mark.distributed
@pytest.mark.timeout(600)
class TestOnRanks:
    @pytest.mark.parametrize("optimizer", ["sgd", "rowwise_adagrad"])
    def test_it_learns_what_ours_learns(self, found: Any, optimizer: str) -> None:
        ours, theirs = found[f"sharded {optimizer}"], found[f"torchrec {optimizer}"]
        for rank in (0, 1):
            torch.testing.assert_close(
                torch.tensor(theirs[rank]["losses"]), torch.tensor(ours[rank]["losses"]), atol=1e-5, rtol=0
            )
        torch.testing.assert_close(theirs[0]["lookup"], ours[0]["lookup"], atol=1e-5, rtol=0)
        assert theirs[0]["held"] == ours[0]["held"]

    @pytest.mark.parametrize(
        ("case", "setting"), [("accumulated", "accumulate_grad_batches"), ("clipped", "gradient_clip_val")]
    )
    def test_what_its_backward_would_change_is_refused(self, found: Any, case: str, setting: str) -> None:
        for said in found[case]:
            assert f"trainer.{setting} would not hold" in said

    def test_its_checkpoint_is_gone_on_from_by_ours(self, found: Any) -> None:
        whole, rest = found["torchrec rowwise_adagrad"], found["gone on by ours"]
        for rank in (0, 1):
            found_losses = torch.tensor(rest[rank]["losses"])
            expected = torch.tensor(whole[rank]["losses"][-len(found_losses) :])
            torch.testing.assert_close(found_losses, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(rest[0]["lookup"], whole[0]["lookup"], atol=1e-5, rtol=0)
