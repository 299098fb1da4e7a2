"""What every command shares: where the configs are, and errors as one line. Hydra is imported on use."""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from recsys.schema import InputError
from recsys.warning import leave_when_warned

# OpenMP threads that spin while they wait slow a step a hundred times on shared cores; those that sleep at
# once halve the rate of small steps on cores of their own. libgomp's spin for a moment, others' sleep.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT, _LARGEST_KEPT = 2**31 - 1, 32 << 20  # bytes, the most that mallopt takes


def _keep_freed_memory() -> None:
    """The same blocks come again in every step. By itself glibc gives freed ones back to the system and has
    them filled with zeros anew, for up to a third of a step of short histories.
    """
    is_told = any(name.startswith("MALLOC_") for name in os.environ)
    if is_told or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return  # somebody knows better
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for option, size in ((_TRIM_THRESHOLD, _KEPT), (_MMAP_THRESHOLD, _LARGEST_KEPT)):
            mallopt(option, size)


_keep_freed_memory()


_NUMBERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT", "SLURM_PROCID")  # what launchers set
COMMAND_LINE: list[str] = []  # with the word that `python -m recsys` takes off, where it did


@contextlib.contextmanager
def _whole_command_line() -> Iterator[None]:
    """A trainer starts its other processes by the command line of this one."""
    seen = sys.argv
    sys.argv = COMMAND_LINE or seen
    try:
        yield
    finally:
        sys.argv = seen


def conf_dir() -> str:
    """Folder of the YAML files: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    packaged = package / "conf"
    return str(packaged if packaged.is_dir() else package.parent / "conf")


def fail(message: str) -> None:
    """Print one line on stderr and leave with exit code 2."""
    sys.stderr.write(f"error: {message}\n")  # at once, so that ranks do not write into each other's lines
    sys.stderr.flush()
    raise SystemExit(2)


@contextlib.contextmanager
def _hydra_raises() -> Iterator[None]:
    """Hydra prints its errors over several lines and leaves; here it raises them instead."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


@contextlib.contextmanager
def _one_line_errors(*, with_trace: bool) -> Iterator[None]:
    """Errors of what was handed in become one line; errors of settings keep their trace on demand."""
    from hydra.errors import CompactHydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except InputError as error:
        fail(" ".join(str(error).split()))
    except (CompactHydraException, OmegaConfBaseException) as error:
        if with_trace:
            raise
        if isinstance(error.__cause__, InputError):  # a part that Hydra builds refused its settings
            fail(" ".join(str(error.__cause__).split()))
        fail(_unknown_setting(error) or _first_sentences(error))
    except OSError as error:
        if error.errno is None:
            raise
        where = error.filename or _output_dir()
        fail(f"{os.strerror(error.errno)} ({where}): free space or mend the path, then run again")


def _leave_ranks() -> None:
    """Of a command that was refused, where it has come as far as to know of any."""
    dealing = sys.modules.get("recsys.parallel.dealing")  # above this module
    if dealing is not None:
        dealing.leave_ranks()


def _check_ranks() -> None:
    """Before Lightning is imported, which would end in a trace. InputError names a variable that is wrong."""
    for name in _NUMBERS:
        value = os.environ.get(name)
        if value is not None and not value.isdecimal():
            raise InputError(f"{name}={value} in the environment is no number; set it right, or unset it")


def _output_dir() -> str:
    """Folder of the run that is going on: what a library writes to when its error names no file."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return os.getcwd()
    return str(Path(HydraConfig.get().run.dir).resolve())


def _unknown_setting(error: Exception) -> str | None:
    """What to say of an override whose key the settings do not have, if that is the error."""
    cause, named = error.__cause__, re.match(r"Could not override '(.+)'", str(error))
    parent = getattr(cause, "parent_node", None)
    if named is None or parent is None or not hasattr(parent, "keys"):
        return None
    key, full_key = str(getattr(cause, "key", "")), str(getattr(cause, "full_key", ""))
    group = full_key.removesuffix(key)
    known = [str(name) for name in parent if name != "hydra" and not str(name).startswith("_")]
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        said = f"{named[1]} is not a setting; did you mean {group}{near[0]}"
    elif known:
        said = f"{named[1]} is not a setting; known are {', '.join(group + name for name in known)}"
    else:
        said = f"{named[1]} is not a setting; {group.rstrip('.')} takes a value and has no settings within"
    if group and known:  # of a data set or a trainer, not all that can be set is written down
        said += f", or +{named[1]} for one that its file leaves out"
    return said + ("?" if near else "")


def _first_sentences(error: Exception) -> str:
    """What Hydra says of a setting, on one line, without its search path and its types."""
    said = re.split(r"\n\s*(?:Config search path|full_key|object_type|See https)\b", str(error))[0]
    return " ".join(said.replace(":\n\t", ": ").replace("\n\t", ", ").split())


def _options_first(arguments: list[str]) -> list[str]:
    """The same command line with its overrides together at the end, as Hydra's parser needs them.

    An option that does not exist is one line on stderr and exit code 2.
    """
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        fail(f"{message}; --help shows what there is")
        raise AssertionError

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    overrides: list[str] = parser.parse_intermixed_args(arguments[1:]).overrides
    options = list(reversed(arguments))
    for override in reversed(overrides):
        options.remove(override)
    return [*reversed(options), *overrides]


def hydra_command(config_name: str) -> Callable[[Callable[[Any], Any]], Callable[[], None]]:
    """Make `task(cfg)` a Hydra app whose user errors are one line and a non-zero exit code.

    HYDRA_FULL_ERROR=1 in the environment shows the trace of an error in the settings.
    """

    def decorate(task: Callable[[Any], Any]) -> Callable[[], None]:
        def main() -> None:
            leave_when_warned()
            import hydra

            with_trace = os.environ.get("HYDRA_FULL_ERROR") == "1"

            @functools.wraps(task)
            def guarded(cfg: Any) -> Any:
                with _one_line_errors(with_trace=with_trace), _whole_command_line():
                    _check_ranks()
                    return task(cfg)

            sys.argv = _options_first(sys.argv)
            app = hydra.main(version_base="1.3", config_path=conf_dir(), config_name=config_name)(guarded)
            code = None
            try:
                with _one_line_errors(with_trace=with_trace), _hydra_raises():
                    app()
            except SystemExit as ended:
                code = ended.code
            if code is not None:  # nothing of the run is left now which holds its ranks
                _leave_ranks()
                sys.exit(code)

        return main

    return decorate
