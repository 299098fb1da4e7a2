"""What a run tells while it works: a progress bar over named stages, and single lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


class Stages:
    """`with stages("clean"):` shows the stage's name and counts it when done; `tell` hears the names too."""

    def __init__(self, *, num_stages: int, shown: bool, tell: Callable[[str], None]) -> None:
        self._tell = tell
        layout = "{desc:<22} {bar:24} {n_fmt}/{total_fmt} [{elapsed}]"
        self._bar = tqdm(total=num_stages, disable=not shown, bar_format=layout)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._bar.set_description_str(name)
        self._tell(name)
        yield
        self._bar.update(1)

    def close(self) -> None:
        self._bar.close()


def say(line: str, *, kind: str = "warning") -> None:
    """One line on stderr."""
    print(f"{kind}: {line}", file=sys.stderr, flush=True)
