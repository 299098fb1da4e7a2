"""Files and folders that are there whole or not at all; what a disk refuses is said with its place."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

UNUSED_S = 30 * 86400  # longer than any process keeps files of another machine open
_USED = ".used"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM, errno.EROFS)


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
    """The folder, which `build` fills where it does not exist yet. Where several processes come at once, the
    first one builds and the others wait for it; if it dies the next one builds.

    What `built_once` has put beside it and nobody has opened for `UNUSED_S` goes when something new is built:
    every use of a folder is noted in it.
    """
    with _naming(folder), _locked(folder) as is_alone:
        if not folder.is_dir():
            building = _beside(folder, "building")
            if is_alone:
                _remove_left(building)
            building.mkdir(parents=True)
            try:
                build(building)
                _rename_new(building, folder)
            finally:
                shutil.rmtree(building, ignore_errors=True)
            if is_alone:
                _remove_unused(folder.parent)
        with contextlib.suppress(OSError):  # of a cache that others have made
            (folder / _USED).touch()
    return folder


@contextlib.contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Work in a folder that outlives processes: `is_in_use` meanwhile, by several at once if need be. It is
    made where it is missing, and goes at the end if nothing is in it.
    """
    descriptor = _shared(folder)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it is not empty, or another process took it away
            folder.rmdir()
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # of processes that were forked meanwhile, too
        os.close(descriptor)


def is_in_use(folder: Path) -> bool:
    """Whether a process of this machine that lives is in `in_use` of it. Those of others cannot be seen."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    finally:
        os.close(descriptor)
    return False


def _shared(folder: Path) -> int:
    """A descriptor that holds the lock, where there are locks."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # another process took it away at this moment
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
        if _is_file_at(folder, descriptor):
            return descriptor
        os.close(descriptor)


def _rename_new(source: Path, target: Path) -> None:
    """Unless another process, where there are no locks, has been faster."""
    try:
        os.rename(source, target)
    except OSError:
        if not target.is_dir():
            raise


def _remove_left(building: Path) -> None:
    """What processes that were killed have built of the same folder."""
    own = building.name.rpartition("-")[0]
    for left in building.parent.glob(f"{own}-*"):
        if left.name.rpartition("-")[0] == own:
            shutil.rmtree(left, ignore_errors=True)


def _remove_unused(parent: Path) -> None:
    """Not while another process opens it or builds there; those that have it mapped keep their pages."""
    for used in list(parent.glob(f"*/{_USED}")):
        if not _is_old(used):
            continue
        with (
            contextlib.suppress(BlockingIOError, FileNotFoundError),
            _locked(used.parent, waits=False) as is_alone,
        ):
            if is_alone and _is_old(used):  # now that nobody can open it
                removed = _beside(used.parent, "removed")
                os.rename(used.parent, removed)
                shutil.rmtree(removed, ignore_errors=True)


def _is_old(used: Path) -> bool:
    return time.time() - used.stat().st_mtime > UNUSED_S


@contextlib.contextmanager
def _locked(path: Path, *, waits: bool = True) -> Iterator[bool]:
    """One process at a time; the system takes the lock from one that dies. BlockingIOError where another has
    it and this one does not wait. False where it cannot be had at all: all come in at once.
    """
    lock = path.with_name(f".lock-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        is_locked = False
        while not is_locked:
            try:
                file = stack.enter_context(lock.open("w"))
                fcntl.flock(file, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                break
            is_locked = _is_file_at(lock, file.fileno())  # the one before may have taken it away meanwhile
        if is_locked:
            stack.callback(lock.unlink, missing_ok=True)
        yield is_locked


def _is_file_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


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
