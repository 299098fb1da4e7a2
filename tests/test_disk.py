"""Whole or not at all; and whatever the disk says, it is said with the place."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from recsys import disk
from recsys.disk import UNUSED_S, built_once, whole_file, whole_folder
from recsys.parallel.checkpoints import WholeCheckpoints

ROOT = Path(__file__).parents[1]


def full(*_: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as write() says it: without a name


def half(building: Path) -> None:
    building.write_text("half")
    full()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    for content in ("first", "second"):
        with whole_file(path) as building:
            building.write_text(content)
            assert not path.exists() or path.read_text() == "first"
    assert path.read_text() == "second"
    assert names(path.parent) == ["a.json"]


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("first")
    with pytest.raises(OSError, match="No space left") as caught, whole_file(path) as building:
        half(building)
    assert caught.value.filename == str(path)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "first"
    assert names(tmp_path) == ["a.json"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "bundle"
    for name in ("first", "second"):
        with whole_folder(folder) as building:
            (building / name).touch()
    assert names(folder) == ["second"]
    assert names(folder.parent) == ["bundle"]


@pytest.mark.parametrize("was_there", [False, True])
def test_a_folder_that_does_not_fit_leaves_what_was(tmp_path: Path, was_there: bool) -> None:
    folder = tmp_path / "bundle"
    if was_there:
        folder.mkdir()
        (folder / "first").touch()
    with pytest.raises(OSError, match="No space left") as caught, whole_folder(folder) as building:
        half(building / "second")
    assert caught.value.filename == str(folder)
    assert names(tmp_path) == (["bundle"] if was_there else [])
    assert not was_there or names(folder) == ["first"]


def test_a_folder_that_cannot_be_renamed_brings_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "first").touch()
    rename = os.replace

    def fails_for_the_new(source: Path, target: Path) -> None:
        if source.name.startswith(".building"):
            full()
        rename(source, target)

    monkeypatch.setattr(os, "replace", fails_for_the_new)
    with pytest.raises(OSError, match="No space left"), whole_folder(folder):
        pass
    assert names(tmp_path) == ["bundle"]
    assert names(folder) == ["first"]


def test_an_error_that_is_not_the_disks_passes_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a") as building:
        building.write_text(str(1 / 0))
    assert names(tmp_path) == []


def test_a_checkpoint_that_does_not_fit_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"step": torch.tensor(1)}, path)

    monkeypatch.setattr(Path, "write_bytes", lambda building, content: half(building))
    with pytest.raises(OSError, match=r"No space left.*last\.ckpt"):
        WholeCheckpoints().save_checkpoint({"step": torch.tensor(2)}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert names(path.parent) == ["last.ckpt"]


WAITS = """
import sys, time
from pathlib import Path
from recsys.disk import built_once

def build(folder):
    with (folder.parent / "log").open("a") as log:
        log.write("built\\n")
    time.sleep(float(sys.argv[2]))
    (folder / "a").write_text("whole")

folder = built_once(Path(sys.argv[1]), build)
assert (folder / "a").read_text() == "whole"
"""


def builder(folder: Path, *, takes_s: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WAITS, str(folder), str(takes_s)], cwd=ROOT)


def test_of_processes_that_come_at_once_one_builds(tmp_path: Path) -> None:
    builders = [builder(tmp_path / "cache", takes_s=1.0) for _ in range(4)]
    assert [one.wait(60) for one in builders] == [0] * 4
    assert (tmp_path / "log").read_text() == "built\n"
    assert names(tmp_path) == ["cache", "log"]


def test_one_that_dies_while_it_builds_keeps_nobody_waiting(tmp_path: Path) -> None:
    first = builder(tmp_path / "cache", takes_s=600)
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    second = builder(tmp_path / "cache", takes_s=0)
    time.sleep(0.5)
    first.kill()
    first.wait()
    assert second.wait(60) == 0
    assert (tmp_path / "log").read_text() == "built\n" * 2
    assert names(tmp_path) == ["cache", "log"], "what the first one left half written has gone"


def fill(folder: Path) -> None:
    (folder / "a").write_text("whole")


def made_old(folder: Path) -> None:
    """As if it had not been opened for longer than caches are kept."""
    past = time.time() - UNUSED_S - 60
    os.utime(folder / ".used", (past, past))


def test_what_nobody_opens_any_more_goes_when_something_new_is_built(tmp_path: Path) -> None:
    for name in ("old", "opened", "fresh"):
        built_once(tmp_path / name, fill)
    (tmp_path / "somebodys").mkdir()
    for name in ("old", "opened"):
        made_old(tmp_path / name)
    built_once(tmp_path / "opened", full)  # is there: not built again
    assert names(tmp_path) == ["fresh", "old", "opened", "somebodys"]
    built_once(tmp_path / "new", fill)
    assert names(tmp_path) == ["fresh", "new", "opened", "somebodys"]


def test_what_is_being_opened_stays(tmp_path: Path) -> None:
    built_once(tmp_path / "old", fill)
    made_old(tmp_path / "old")
    with disk._locked(tmp_path / "old"):
        built_once(tmp_path / "new", fill)
    assert (tmp_path / "old" / "a").read_text() == "whole"
    built_once(tmp_path / "newer", fill)
    assert not (tmp_path / "old").exists()


def test_where_files_cannot_be_locked_each_builds_and_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def build(folder: Path) -> None:
        other = tmp_path / ".building-cache-7"  # another process, which is faster
        other.mkdir()
        fill(other)
        other.rename(tmp_path / "cache")
        (folder / "a").write_text("later")

    monkeypatch.setattr(disk.fcntl, "flock", none)
    (tmp_path / ".building-cache-8").mkdir()  # and one that is not done
    assert (built_once(tmp_path / "cache", build) / "a").read_text() == "whole"
    assert (tmp_path / ".building-cache-8").is_dir()
