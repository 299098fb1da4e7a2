"""The training command going on: on tables of a larger capacity, and with settings that do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from recsys.bundle import load_bundle
from recsys.parallel.checkpoints import checkpoint_name, newest_whole
from recsys.parallel.weights import weights_of
from recsys.schema import Table
from tests import tiny

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]
STEPS, MORE_ROOM = 4, 7000
TWO_RANKS = {kind: (f"trainer={kind}", "trainer.devices=2") for kind in ("ddp", "zero2", "zero3")}
KINDS = {
    "replicated": (),
    "sharded-ddp": (*TWO_RANKS["ddp"], "model.table=sharded"),
    "sharded-zero3": (*TWO_RANKS["zero3"], "model.table=sharded"),
}


def command(name: str, *overrides: str) -> list[str]:
    limits = (f"trainer.max_steps={STEPS}", f"callbacks.checkpoint.every_n_train_steps={STEPS}")
    return ["-m", "recsys", "train", f"name={name}", *tiny.TRAIN_OVERRIDES, *limits, *overrides]


def refused(root: Path, name: str, *overrides: str) -> str:
    """What the ranks say of the error, each in the same line."""
    said = tiny.run(*command(name, *overrides), cwd=root, code=2).stderr
    assert "Traceback" not in said
    (line,) = {line for line in said.splitlines() if "rror" in line}
    return line


@pytest.fixture(scope="module")
def grown_tables(tiny_tables: Path) -> str:
    """Version of tables that go on from the small ones and have room for more items."""
    grown = tiny_tables.parent / "grown"
    shutil.copytree(tiny_tables, grown)
    metadata = json.loads((grown / Table.METADATA).read_text())
    assert metadata["item_capacity"] < MORE_ROOM
    (grown / Table.METADATA).write_text(
        json.dumps(metadata | {"version": "grown", "item_capacity": MORE_ROOM})
    )
    return grown.name


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_where_tables_have_outgrown_it(tiny_root: Path, grown_tables: str, kind: str) -> None:
    if "zero" in kind:
        pytest.importorskip("deepspeed")
    tiny.run(*command(kind, *KINDS[kind]), cwd=tiny_root)
    checkpoint = tiny_root / "outputs" / "online_retail" / kind / "checkpoints" / checkpoint_name(STEPS)
    on_grown = (*KINDS[kind], f"version={grown_tables}")

    said = refused(tiny_root, kind, *on_grown, "resume=auto")
    assert "and here is version=grown; go on with the old one, or begin a new run" in said
    assert said.split("warm_start=")[1] == str(checkpoint.relative_to(tiny_root))
    said = refused(tiny_root, kind, *on_grown, f"warm_start={checkpoint}")
    assert said.endswith("lies among this run's own checkpoints; set another name=NAME")

    still = ("optimizer.lr=1e-9", "model.table_lr=1e-9")
    begun = (*on_grown, *still, f"warm_start={checkpoint}", "resume=auto")  # as Slurm would run it again
    for steps in ((), (f"trainer.max_steps={STEPS + 1}",))[: 2 if kind == "replicated" else 1]:
        tiny.run(*command(f"{kind}-grown", *begun, *steps), cwd=tiny_root)
    model = load_bundle(tiny_root / "models" / "online_retail" / f"{kind}-grown").model
    before, after = weights_of(checkpoint), model.state_dict()
    assert model.config.item_tower.capacity == MORE_ROOM
    assert before["item_tower.lookup.weight"].std() > 0.05
    for name in ("item_tower.lookup.weight", "item_bias.weight", "item_tower.words.weight", "start"):
        assert torch.allclose(after[name][: len(before[name])], before[name], atol=1e-6), name
    assert len(after["item_tower.lookup.weight"]) == len(after["neighbours.weight_VK"]) == MORE_ROOM + 1
    assert after["neighbours.weight_VK"].any()


def test_settings_that_do_not_fit_a_checkpoint_are_named(tiny_tables: Path, tiny_root: Path) -> None:
    pytest.importorskip("deepspeed")
    tiny.run(*command("held", *TWO_RANKS["zero2"]), cwd=tiny_root)
    checkpoint = newest_whole(tiny_root / "outputs" / "online_retail" / "held" / "checkpoints")
    assert checkpoint is not None
    path = str(checkpoint.relative_to(tiny_root))
    for overrides, differs in (
        (TWO_RANKS["ddp"], "trainer=zero2, and here is trainer=ddp"),
        (("trainer=cpu",), "trainer=zero2, and here is trainer=cpu"),
        (TWO_RANKS["zero3"], "trainer=zero2, and here is trainer=zero3"),
        ((*TWO_RANKS["zero2"], "model.width=32"), "model.width=16, and here is model.width=32"),
        ((*TWO_RANKS["zero2"], "optimizer.lr=0.5"), "optimizer.lr=0.002, and here is optimizer.lr=0.5"),
        ((*TWO_RANKS["zero2"], "scheduler.floor=0.5"), "scheduler.floor=0.02, and here is"),
        ((*TWO_RANKS["zero2"], "data.samples.max_length=9"), "data.samples.max_length=200, and here is"),
    ):
        said = refused(tiny_root, "other", *overrides, f"resume={path}")
        assert said.startswith(f"error: checkpoint {path} was made with {differs}")
    freely = ("trainer.devices=1", "trainer.accumulate_grad_batches=2", "data.num_workers=1")
    longer = (f"trainer.max_steps={STEPS + 2}", "callbacks.checkpoint.every_n_train_steps=1")
    tiny.run(*command("held", "trainer=zero2", *freely, *longer, f"resume={path}"), cwd=tiny_root)
    assert newest_whole(checkpoint.parent) == checkpoint.with_name(checkpoint_name(STEPS + 2))
