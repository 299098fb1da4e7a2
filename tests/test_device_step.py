"""A training step asks a device for nothing it would have to wait for, and hands it nothing of its own.

Tensors on torch's `meta` device have no numbers: what reads one, or makes a shape of them, raises there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data._utils.pin_memory import pin_memory

from recsys.batch import Histories, Packing, TrainBatch
from recsys.data.plan import ElasticLoader
from recsys.module import UserModule
from tests.nn.small_model import catalogue, histories, small_model
from tests.nn.test_event_tokens import telling
from tests.test_module import PLAN, module, samples_of


def moved(values: Any, device: torch.device) -> Any:
    """As the trainer moves a batch: by the `to` of whatever has one."""
    if isinstance(values, Tensor | Histories | Packing):
        return values.to(device, **({"non_blocking": True} if isinstance(values, Tensor) else {}))
    if isinstance(values, tuple) and hasattr(values, "_fields"):
        return type(values)(*(moved(value, device) for value in values))
    return values


class _OnDevice(TorchDispatchMode):
    """Operands are on the device; a single number of the host may travel with the name of an operation that
    computes. A mask as an index is a shape made of numbers.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        computes = "copy" not in name and "index_put" not in name
        for value in tree_leaves((args, kwargs or {})):
            if isinstance(value, Tensor):
                assert value.device.type != "cpu" or (value.ndim == 0 and computes), func
        if "index_put" in name:
            assert all(index is None or index.dtype != torch.bool for index in args[1]), func
        return func(*args, **kwargs or {})


class _NothingNew(TorchFunctionMode):
    """No tensor is made of the host's numbers: its copy would wait."""

    MAKERS = (torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy, Tensor.new_tensor)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in self.MAKERS, func
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else args[1:2]
            assert not any(isinstance(part, list | np.ndarray) for part in index), func
            if any(isinstance(part, Tensor) for part in index):  # a GPU would be sent a number put there
                assert all(isinstance(value, Tensor) for value in args[2:]), func
        return func(*args, **kwargs or {})


@contextmanager
def on_device_alone() -> Iterator[None]:
    with _OnDevice(), _NothingNew():
        yield


def step(learner: UserModule, batch: TrainBatch) -> None:
    parts = learner.losses(batch)
    torch.stack(list(parts.values())).sum().backward()
    torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)


def first_batch(*, has_time: bool, num_negatives: int, packed: bool, pinned: bool = False) -> TrainBatch:
    samples = samples_of(has_time=has_time, num_negatives=num_negatives)
    return next(iter(ElasticLoader(samples=samples, config=PLAN, packed=packed, pinned=pinned)))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("num_negatives", [5, 1000])
@pytest.mark.parametrize("has_time", [True, False])
def test_a_step_waits_for_nothing(has_time: bool, num_negatives: int, packed: bool) -> None:
    device = torch.device("meta")
    learner = module(has_time=has_time, dropout=0.1).to(device)
    batch = moved(first_batch(has_time=has_time, num_negatives=num_negatives, packed=packed), device)
    with on_device_alone():
        step(learner, batch)
    assert learner.model.temperature.log.grad is not None


@pytest.mark.parametrize(
    "settings", [{"positions": "rotary"}, {"cross_attention": False}, {"activation_checkpointing": True}]
)
def test_reading_a_history_waits_for_nothing(settings: dict[str, Any]) -> None:
    """With searches and dwell, in other models."""
    device = torch.device("meta")
    model = small_model(has_dwell=True, has_queries=True, dropout=0.1, **settings).train().to(device)
    of, items = moved(telling(), device), moved(catalogue(), device)
    with on_device_alone():
        model(of, items).user_BLD.sum().backward()
    assert model.event_type.weight.grad is not None


@pytest.mark.parametrize(
    "asks",
    [
        lambda x: int(x.max()),
        lambda x: x[x > 0],
        lambda x: x + torch.tensor([1.0, 2.0], device=x.device),
        lambda x: x.where(x > 0, torch.ones(2)),
        lambda x: x.new_tensor([1.0, 2.0]),
        lambda x: torch.asarray([1.0, 2.0], device=x.device),
        lambda x: x[[1, 0]],
        lambda x: x.index_put((x > 0,), x),
        lambda x: x.__setitem__(x.long(), 1.0),
        lambda x: x + torch.zeros(()).to(x.device),
    ],
)
def test_what_waits_is_seen(asks: Any) -> None:
    with pytest.raises((RuntimeError, NotImplementedError, AssertionError)), on_device_alone():
        asks(torch.ones(2, device="meta"))


def test_every_tensor_of_a_batch_can_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = first_batch(has_time=True, num_negatives=5, packed=True)
    seen = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda values, *_: seen.append(id(values)) or values)
    assert isinstance(pin_memory(batch), TrainBatch)
    assert sorted(seen) == sorted(id(leaf) for leaf in tree_leaves(batch) if isinstance(leaf, Tensor))


def test_a_batch_moves_whole() -> None:
    told = histories().packed().counted().to(torch.device("meta"))
    assert (told.most_own, told.length_B.device.type) == (4, "meta")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("has_time", [True, False])
def test_on_a_gpu_a_step_does_not_synchronise(has_time: bool) -> None:
    device = torch.device("cuda")
    learner = module(has_time=has_time, dropout=0.1).to(device)
    optimizer = learner.make_optimizer(learner.parameters())
    batch = first_batch(has_time=has_time, num_negatives=5, packed=True, pinned=True)
    assert batch.histories.item_BL.is_pinned()
    with torch.autocast("cuda", torch.bfloat16):
        for mode in ("default", "error"):  # in the first one kernels are chosen and memory is taken
            torch.cuda.set_sync_debug_mode(mode)
            try:
                step(learner, moved(batch, device))
                optimizer.step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
