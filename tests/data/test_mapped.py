"""Arrays in files: what was appended, whole and read-only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys.data.mapped import GrowingArrays, open_mapped


def test_rows_lie_one_behind_the_other(tmp_path: Path) -> None:
    with GrowingArrays(tmp_path) as out:
        for k in range(1200):  # a longer length takes more digits in the file's head
            out.append(wide=np.full((k % 3, 2), k, np.float32), flag=np.array([k % 2 == 0]))
    wide, flag = open_mapped(tmp_path / "wide.npy"), open_mapped(tmp_path / "flag.npy")
    assert wide.tolist() == [[k, k] for k in range(1200) for _ in range(k % 3)]
    assert wide.dtype == np.float32
    assert flag.tolist() == [True, False] * 600
    with pytest.raises(ValueError, match="read-only"):
        wide[0] = 1


def test_nothing_is_an_array_too(tmp_path: Path) -> None:
    with GrowingArrays(tmp_path) as out:
        out.append(none=np.zeros((0, 3), np.int64), narrow=np.zeros((5, 0)))
    assert open_mapped(tmp_path / "none.npy").shape == (0, 3)
    assert open_mapped(tmp_path / "narrow.npy").shape == (5, 0)
