"""What every command shares: where the configs are, and errors as one line. Hydra is imported on use."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recsys.schema import InputError

# Spinning OpenMP threads that wait for one another on shared cores slow a step fifty times; sleeping ones do not.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def conf_dir() -> str:
    """Folder of the YAML files: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    packaged = package / "conf"
    return str(packaged if packaged.is_dir() else package.parent / "conf")


def fail(message: str) -> None:
    """Print one line on stderr and leave with exit code 2."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(2)


def hydra_command(config_name: str) -> Callable[[Callable[[Any], None]], Callable[[], None]]:
    """Make `task(cfg)` a Hydra app whose user errors are one line and a non-zero exit code."""

    def decorate(task: Callable[[Any], None]) -> Callable[[], None]:
        @functools.wraps(task)
        def guarded(cfg: Any) -> None:
            try:
                task(cfg)
            except InputError as error:
                fail(" ".join(str(error).split()))
            except OSError as error:
                if error.errno is None:
                    raise
                where = f" ({error.filename})" if error.filename else ""
                fail(f"{os.strerror(error.errno)}{where}: free space or mend the path, then run again")

        def main() -> None:
            import hydra
            from hydra.errors import ConfigCompositionException

            os.environ.setdefault("HYDRA_FULL_ERROR", "0")
            app = hydra.main(version_base="1.3", config_path=conf_dir(), config_name=config_name)(guarded)
            try:
                app()
            except ConfigCompositionException as error:
                fail(" ".join(str(error).split()))

        return main

    return decorate
