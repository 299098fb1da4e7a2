"""Whole or not at all; and whatever the disk says, it is said with the place."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from recsys.disk import whole_file, whole_folder
from recsys.parallel.checkpoints import WholeCheckpoints


def full() -> None:
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
