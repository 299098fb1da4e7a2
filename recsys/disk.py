"""Files and folders that are there whole or not at all; what a disk refuses is said with its place."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to: it takes that place at the end, or leaves no trace on failure.

    Raises OSError that names `path` for whatever the disk refuses.
    """
    building = _beside(path, "building")
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield building
            os.replace(building, path)
        finally:
            building.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """The same for a folder: the one before goes only when the new one is complete."""
    building, replaced = _beside(folder, "building"), _beside(folder, "replaced")
    with _naming(folder):
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        try:
            yield building
            if folder.exists():
                os.replace(folder, replaced)
            os.replace(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
            if replaced.exists() and not folder.exists():
                os.replace(replaced, folder)
            shutil.rmtree(replaced, ignore_errors=True)


def built_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """The folder, which `build` fills where it does not exist yet. Several processes may come at once: the
    first to end gives it its name.
    """
    if folder.is_dir():
        return folder
    building = _beside(folder, "building")
    with _naming(folder):
        building.mkdir(parents=True, exist_ok=True)
        try:
            build(building)
            with contextlib.suppress(FileExistsError):
                _rename_new(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return folder


def _rename_new(source: Path, target: Path) -> None:
    """FileExistsError where the target is there."""
    try:
        os.rename(source, target)
    except OSError:
        if target.is_dir():
            raise FileExistsError(target) from None
        raise


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f".{what}-{path.name}-{os.getpid()}")


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Most errors of writing name no file, or a hidden one that is gone again."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
