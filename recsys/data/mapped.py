"""Arrays in files: written within bounded memory, then mapped and shared by all processes of a node."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np


def mapped_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap:
    """A new memory-mapped .npy file of zeros whose room on the disk is taken."""
    mapped: np.memmap = np.lib.format.open_memmap(path, "w+", dtype, shape)  # type: ignore[no-untyped-call]
    _take_room(path, path.stat().st_size)
    return mapped


def open_mapped(path: Path) -> np.ndarray:
    """The array of a .npy file, read-only; its pages are the system's to keep or to drop."""
    return np.asarray(np.load(path, mmap_mode="r"))


class GrowingArrays:
    """.npy files of a folder that grow along their first axis, whose length is known at the end only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, tuple[BinaryIO, np.dtype[Any], list[int]]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> GrowingArrays:
        return self

    def append(self, **arrays: np.ndarray) -> None:
        """Rows to go behind those before; the first ones decide dtype and further axes."""
        for name, rows in arrays.items():
            if name not in self._files:
                opened = self._stack.enter_context((self.folder / f"{name}.npy").open("wb"))
                self._files[name] = opened, rows.dtype, [0, *rows.shape[1:]]
                self._write_header(name)
            file, dtype, shape = self._files[name]
            assert (rows.dtype, [*rows.shape[1:]]) == (dtype, shape[1:]), name
            file.write(np.ascontiguousarray(rows).data)
            shape[0] += len(rows)

    def _write_header(self, name: str) -> None:
        file, dtype, shape = self._files[name]
        about = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": tuple(shape),
        }
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, about)  # type: ignore[no-untyped-call]  # leaves room to grow

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None:
                for name in self._files:
                    self._write_header(name)


def _take_room(path: Path, num_bytes: int) -> None:
    """On a full disk a write through a memory map kills the process without a word; this raises OSError."""
    with path.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, max(num_bytes, 1))
