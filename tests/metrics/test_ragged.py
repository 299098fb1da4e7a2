import numpy as np
import pytest

from recsys.metrics.ragged import Ragged


def test_lists_come_back_as_rows() -> None:
    ragged = Ragged.from_lists([[3, 1], [], [2]])
    assert ragged.num_rows == 3
    assert [ragged.row(u).tolist() for u in range(3)] == [[3, 1], [], [2]]
    assert ragged.lengths.tolist() == [2, 0, 1]
    assert ragged.row_of_entry.tolist() == [0, 0, 2]


def test_pairs_keep_their_order_within_a_row() -> None:
    ragged = Ragged.from_pairs(row_E=np.array([2, 0, 2]), value_E=np.array([9, 4, 7]), num_rows=4)
    assert [ragged.row(u).tolist() for u in range(4)] == [[4], [], [9, 7], []]


@pytest.mark.parametrize("rows", [np.array([2, 0]), np.array([True, False, True])])
def test_select_picks_rows(rows: np.ndarray) -> None:
    picked = Ragged.from_lists([[3, 1], [], [2]]).select(rows)
    assert sorted(picked.row(u).tolist() for u in range(2)) == [[2], [3, 1]]


def test_no_rows() -> None:
    assert Ragged.from_lists([]).num_rows == 0


def test_offsets_must_span_values() -> None:
    with pytest.raises(AssertionError, match="span"):
        Ragged(offsets=np.array([0, 1]), values=np.array([1, 2]))
