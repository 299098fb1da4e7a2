"""A command's errors are one line on stderr and exit code 2; what is no user's error is raised."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

import recsys.parallel.dealing  # noqa: F401  (commands that join ranks have it)
from recsys.entry import hydra_command
from recsys.schema import InputError
from tests import tiny


class Group:
    """Somebody who holds a group."""

    def __init__(self, group: Any) -> None:
        self.group = group


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a task as a command in an empty folder: (exit code, what it wrote to stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def command(
        *arguments: str, task: Callable[[Any], None] = lambda cfg: None, config: str = "evaluate"
    ) -> Any:
        monkeypatch.setattr("sys.argv", ["prog", *arguments])
        code = 0
        try:
            hydra_command(config)(task)()
        except SystemExit as left:
            code = int(left.code or 0)
        return code, capsys.readouterr().err

    return command


def raises(error: Exception) -> Callable[[Any], None]:
    def task(cfg: Any) -> None:
        raise error

    return task


def test_a_task_gets_the_composed_settings(run: Run) -> None:
    seen: list[str] = []
    assert run("bundle=mine", task=lambda cfg: seen.append(cfg.bundle)) == (0, "")
    assert seen == ["mine"]


def test_overrides_may_stand_on_both_sides_of_an_option(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine" / "dataset").mkdir(parents=True)
    (tmp_path / "mine" / "dataset" / "shop.yaml").write_text("name: shop\n")
    seen: list[tuple[str, str]] = []
    arguments = ["bundle=x", "--config-dir", "mine", "dataset=shop"]
    assert run(*arguments, task=lambda cfg: seen.append((cfg.bundle, cfg.dataset.name))) == (0, "")
    assert seen == [("x", "shop")]


def test_an_input_error_is_one_line(run: Run) -> None:
    code, said = run(task=raises(InputError("tables/x is\n  missing; build it")))
    assert (code, said) == (2, "error: tables/x is missing; build it\n")


def test_a_refused_rank_leaves_the_others(run: Run) -> None:
    """The threads of a backend, still running when the interpreter ends, may have the process aborted."""
    joined = []

    def task(cfg: Any) -> None:
        group = Group(dist.distributed_c10d._get_default_group())  # as a frame of the trainer holds it
        joined.append(weakref.ref(group))
        raise InputError("not like this")

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        assert run(task=task) == (2, "error: not like this\n")
        assert not dist.is_initialized()
        assert joined[0]() is None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def test_a_full_disk_is_one_line_that_names_the_file(run: Run) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "outputs/metrics.json")
    code, said = run(task=raises(full))
    where = "No space left on device (outputs/metrics.json)"
    assert (code, said) == (2, f"error: {where}: free space or mend the path, then run again\n")


@pytest.mark.parametrize(
    ("arguments", "config", "words"),
    [
        (["bundel=x"], "evaluate", ["bundel is not a setting; did you mean bundle?"]),
        (
            ["data.samples.length=3"],
            "train",
            ["did you mean data.samples.max_length, or +data.samples.length for one that its file leaves"],
        ),
        (["nope.x=1"], "train", ["nope.x is not a setting; known are", "warm_start"]),
        (["name.x=1"], "train", ["name.x is not a setting; name takes a value"]),
        (["bundle=x", "--nope"], "evaluate", ["unrecognized arguments: --nope; --help shows"]),
        (["model=huge"], "train", ["model/huge", "tiny"]),
        (["experiment=nope"], "train", ["experiment/nope", "demo"]),
        (["dataset=nope"], "spark_jobs", ["dataset/nope", "online_retail"]),
        ([], "feedback", ["dataset", "online_retail"]),
        (["bundle=x${"], "evaluate", ["bundle=x${"]),
        (["="], "evaluate", ["override"]),
        (["split=${nowhere}"], "evaluate", ["nowhere"]),
    ],
)
def test_a_setting_that_does_not_fit_is_one_line(
    run: Run, arguments: list[str], config: str, words: list[str]
) -> None:
    code, said = run(*arguments, config=config, task=lambda cfg: print(cfg.get("split")))
    assert code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "\t" not in said
    for word in words:
        assert word in said
    for noise in ("HYDRA_FULL_ERROR", "full_key", "Config search path", "Traceback"):
        assert noise not in said


def test_our_own_mistakes_are_raised_with_their_trace(run: Run) -> None:
    with pytest.raises(ZeroDivisionError):
        run(task=raises(ZeroDivisionError("a bug")))


def test_the_whole_trace_of_a_setting_is_there_on_demand(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra.errors import ConfigCompositionException

    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ConfigCompositionException):
        run("bundel=x")
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_the_environment_is_left_as_it_was(run: Run) -> None:
    run("bundel=x")
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_a_rank_that_is_no_number_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning would stumble over it while it is imported."""
    monkeypatch.setenv("RANK", "x")
    done = tiny.run("-m", "recsys", "recommend", "bundle=none", cwd=tmp_path, code=2)
    assert done.stderr == "error: RANK=x in the environment is no number; set it right, or unset it\n"


BLOCKS_COME_AGAIN = """
import resource
import numpy as np
import recsys.entry

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        held = [np.ones(2_000_000) for _ in range(4)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
@pytest.mark.parametrize(("told", "few"), [({}, True), ({"MALLOC_TOP_PAD_": "131072"}, False)])
def test_freed_memory_is_used_again_unless_the_environment_says_how(told: dict[str, str], few: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | told
    command = [sys.executable, "-c", BLOCKS_COME_AGAIN]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (int(done.stdout) < 500) == few, done.stdout
