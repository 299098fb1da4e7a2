"""Work in parts that outlive the process which made them, put together when all are there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.disk import in_use, is_in_use, whole_folder


class Parts:
    """A folder a part, whole or not there, hidden beside `output`; a part has a file for each of its tables.

    `settings` (JSON) is all that decides what the parts hold: others have a folder of their own.
    """

    def __init__(self, output: Path, *, settings: Mapping[str, Any], num_parts: int) -> None:
        content = json.dumps({**settings, "num_parts": num_parts}, sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        self.num_parts, self.output = num_parts, output
        self.folder = output.with_name(f".parts-{output.name}-{digest}")

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Around all that a run does with them: until then nobody clears them away as left by the dead."""
        with contextlib.ExitStack() as stack:
            with self._naming_output():
                stack.enter_context(in_use(self.folder))
            yield

    def missing(self) -> list[int]:
        return [part for part in range(self.num_parts) if not self._home(part).is_dir()]

    def write(self, part: int, tables: Mapping[str, pa.Table]) -> None:
        """Raises OSError that names the output for whatever the disk refuses; finished parts stay."""
        with self._naming_output(), whole_folder(self._home(part)) as building:
            for name, table in tables.items():
                pq.write_table(table, building / f"{name}.parquet")

    def names(self) -> list[str]:
        """Of the tables, which all parts have."""
        return sorted(path.stem for path in self._home(0).iterdir())

    def tables(self, name: str) -> Iterator[pa.Table]:
        """One part in memory at a time, in their order."""
        for part in range(self.num_parts):
            yield pq.read_table(self._home(part) / f"{name}.parquet", partitioning=None)

    def remove(self) -> None:
        """These, and what runs with other settings that died have left beside the same output."""
        beside = self.folder.name.rpartition("-")[0]
        for folder in self.folder.parent.glob(f"{beside}-{'?' * 16}"):
            if folder == self.folder or not is_in_use(folder):
                shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _naming_output(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.output)) from error

    def _home(self, part: int) -> Path:
        return self.folder / f"{part:06d}"
