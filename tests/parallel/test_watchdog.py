"""A rank that stands still is named, and all ranks end; one that only takes its time goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from recsys.data.datamodule import UserDataModule
from recsys.parallel import watchdog
from recsys.parallel.watchdog import EXIT_CODE, Place, Watchdog, judge
from recsys.schema import InputError
from tests.parallel.ranks import ROOT, free_port, place_of
from tests.parallel.training import PLAN
from tests.test_module import module, samples_of

FORWARD, BACKWARD = 4, 5

# What the rank does that is found: told by WHO and WHAT, once, in the third step.
RANK = """
import os, signal, time
from tests.parallel import training
from recsys.parallel.watchdog import Watchdog
import pytorch_lightning as pl

def sleeps():
    time.sleep(600)

def stands():
    os.kill(os.getpid(), signal.SIGSTOP)

def leaves():
    if os.environ["RANK"] == "0":
        os._exit(3)
    time.sleep(600)

class Does(pl.Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.micro = batch_idx
        if WHERE == "before":
            self.do(trainer)

    def on_after_backward(self, trainer, module):
        if WHERE == "backward":
            self.do(trainer)

    def do(self, trainer):
        is_third = trainer.global_step == 2 and self.micro % ACCUMULATE == ACCUMULATE // 2
        if is_third and trainer.global_rank in WHO:
            WHAT()

training.train(strategy="ddp", accumulate=ACCUMULATE, more=[Does(), Watchdog(stalled_after_s=8)])
"""

# A rank whose watchdog is among its calls to the store when training and the program end.
BUSY = """
import time
from tests.parallel import training
from recsys.parallel import watchdog

class Busy(watchdog._Told):
    def tell(self, mine):
        end = time.monotonic() + 3
        while time.monotonic() < end:
            super().tell(mine)

watchdog._Told = Busy
watch = watchdog.Watchdog()
watch.every_s = 0.0
training.train(strategy="ddp", steps=2, num_ranks=1, more=[watch])
"""


def at(micro: int, phase: int, *, stood_s: float = 40.0, told_s: float = 1.0, host: str = "a") -> Place:
    """A place as it is seen at second 1000."""
    return Place(micro, phase, micro // 4, since=1000 - stood_s, told=1000 - told_s, host=host)


def judged(*places: Place) -> str | None:
    return judge(dict(enumerate(places)), now=1000, stalled_after_s=30, stalled_between_s=300)


@pytest.mark.parametrize("name", ["stalled_after_s", "stalled_between_s"])
def test_a_limit_that_every_rank_breaks_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"callbacks.watchdog.{name}=0 .* above 0"):
        Watchdog(**{name: 0})


def test_the_rank_that_is_furthest_behind_is_named() -> None:
    said = judged(at(49, BACKWARD), at(49, FORWARD, stood_s=41, host="b"), at(49, BACKWARD))
    assert (
        said == "error: rank 1 on b has stood at step 12, micro batch 49 since the start (forward) for 41 s"
    )


def test_micro_batches_of_one_step_are_different_places() -> None:
    """The first waits for data of the next micro batch, the second still computes gradients of this one."""
    said = judged(at(50, 0), at(49, BACKWARD, host="b"))
    assert said is not None
    assert said.startswith("error: rank 1 on b has stood at step 12, micro batch 49")


def test_ranks_at_one_place_are_all_named() -> None:
    said = judged(*[at(8, BACKWARD, host=host) for host in "abcdef"])
    assert said is not None
    assert said.startswith(
        "error: rank 0 on a and rank 1 on b and rank 2 on c and rank 3 on d and 2 more have stood at step 2"
    )


def test_others_wait_for_one_that_may_take_its_time() -> None:
    saves, evaluates = 1, 2
    for phase in (saves, evaluates):
        assert judged(at(8, FORWARD), at(8, phase, stood_s=200)) is None
        assert "rank 1 on a has stood" in str(judged(at(8, FORWARD), at(8, phase, stood_s=301)))
    assert judged(at(8, FORWARD, stood_s=40), at(8, 0, stood_s=20)) is None, "it has only just come there"


def test_a_rank_that_tells_nothing_is_named_wherever_it_was() -> None:
    said = judged(at(8, FORWARD), at(8, BACKWARD, stood_s=70, told_s=70, host="b"))
    assert said == "error: rank 1 on b has told nothing for 70 s: process or node stands"


@pytest.fixture
def codes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Those that this process would have ended with."""
    found: list[int] = []
    monkeypatch.setattr(watchdog.os, "_exit", found.append)
    monkeypatch.setattr(watchdog.faulthandler, "dump_traceback", lambda **_: None)
    return found


class SlowSave(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "slow.ckpt")

    def on_save_checkpoint(self, *_: Any) -> None:
        time.sleep(5)


def fit(folder: Path, watch: Watchdog, *more: pl.Callback, evaluate: Any = None, accumulate: int = 1) -> None:
    """One epoch's first step."""
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=accumulate,
        accumulate_grad_batches=accumulate,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[watch, *more],
    )
    trained = module()
    trained.evaluate_epoch = evaluate
    trainer.fit(trained, datamodule=UserDataModule(samples=samples_of(), plan=PLAN))


def slow_evaluation(model: Any) -> dict[str, float]:
    time.sleep(5)
    return {}


@pytest.mark.parametrize("slow", ["save", "evaluate"])
@pytest.mark.parametrize(("between_s", "found"), [(60.0, []), (3.0, [EXIT_CODE])])
def test_between_steps_there_is_another_limit(
    tmp_path: Path,
    codes: list[int],
    capfd: pytest.CaptureFixture[str],
    slow: str,
    between_s: float,
    found: list[int],
) -> None:
    more = [SlowSave()] if slow == "save" else []
    watch = Watchdog(stalled_after_s=2, stalled_between_s=between_s)
    fit(tmp_path, watch, *more, evaluate=slow_evaluation if slow == "evaluate" else None)
    assert sorted(set(codes)) == found
    assert (f"({slow}s" in capfd.readouterr().err) == bool(found)


def test_places_follow_each_other(tmp_path: Path) -> None:
    class Kept(Watchdog):
        kept: list[tuple[int, int]]

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "_place":
                self.__dict__.setdefault("kept", []).append((value.micro, value.phase))

    watch = Kept()
    fit(tmp_path, watch, accumulate=4)
    places = watch.kept[2:]
    assert places == sorted(places)
    assert len(set(places)) == len(places) > 4 * 4


def ranks(who: tuple[int, ...], what: str, *, where: str = "before", accumulate: int = 1) -> list[Any]:
    """Two real ranks, one or both of which do something in the third step."""
    head = f"WHO, WHERE, ACCUMULATE = {who}, {where!r}, {accumulate}\n"
    program = head + RANK.replace("WHAT()", f"{what}()")
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | place_of(rank, num_ranks=2, port=port),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def errors_of(process: subprocess.Popen[str]) -> list[str]:
    said = process.communicate(timeout=240)[1]
    return [line for line in said.splitlines() if line.startswith("error: ")]


@pytest.mark.distributed
def test_the_interpreter_ends_after_its_threads() -> None:
    place = place_of(0, num_ranks=1, port=free_port())
    done = subprocess.run(
        [sys.executable, "-c", BUSY],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | place,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, "terminate called" in done.stderr) == (0, False), done.stderr


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("where", "accumulate", "place"),
    [
        ("before", 1, "step 2, micro batch 2 since the start (waits for data)"),
        ("backward", 4, "step 2, micro batch 10 since the start (backward)"),
    ],
)
def test_two_real_ranks_end_when_one_stands(where: str, accumulate: int, place: str) -> None:
    started = ranks((1,), "sleeps", where=where, accumulate=accumulate)
    said = [errors_of(process) for process in started]
    assert [process.returncode for process in started] == [EXIT_CODE] * 2
    assert said[0] == said[1]
    assert len(said[0]) == 1
    assert said[0][0].startswith("error: rank 1 on ")
    assert f" has stood at {place} for " in said[0][0]


@pytest.mark.distributed
@pytest.mark.parametrize(("who", "what", "code"), [((0,), "stands", None), ((0, 1), "leaves", 3)])
def test_a_rank_ends_when_the_first_is_gone(who: tuple[int, ...], what: str, code: int | None) -> None:
    first, second = ranks(who, what)
    try:
        (said,) = errors_of(second)
        assert second.returncode == EXIT_CODE
        assert said.startswith("error: rank 0 has not answered for ")
        assert first.poll() == code
    finally:
        first.kill()
        first.communicate()
