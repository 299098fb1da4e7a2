"""Whether a feature tells a label that the past does not explain, and what mere chance would show.

Half of the rows teach, the other half is judged, and the other way round. What the past tells is a smooth
function of its numbers; a feature's values are put in cells, a cell's mean of what the past leaves over is
learned from one half, and in the other half it orders pairs of rows that the past tells alike. The share of
right pairs is the area under the ROC curve within those strata (0.5: the feature adds nothing; 1: it knows).
The same with labels dealt out anew is chance. All that orders the judged half is learned from the teaching
one alone, so that shuffled labels are told rightly as often as wrongly, in samples of any size.

Legend: N rows, P numbers of the past, K labels (the first is the true one, then shuffled ones), C cells, H
which half teaches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

NUM_SHUFFLES = 20
NUM_CELLS = 20  # of a number
NUM_STRATA = 10
LEAST_ROWS, LEAST_OF_EACH = 100, 20  # fewer cannot be told from chance
_SHRINKAGE = 10.0  # rows that a cell is short of before its mean is believed half
_RIDGE = 1e-3  # of a row
_MOST_CATEGORIES = 20  # so many different numbers are cells of their own
_LEAST_NUMBERS = 3  # of two the size tells nothing that the value does not
_NUMERIC_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Rows known at a cut. `numbers`: of the past, each a feature too; `undated`: text, None: missing."""

    undated: Mapping[str, Sequence[str | None]]
    numbers: Mapping[str, np.ndarray]
    outcome: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Told:
    """`beyond`: area under the curve among rows that the past tells alike; `low`, `high`: the same with
    shuffled labels; `alone`: the area without regard to the past."""

    beyond: float
    alone: float
    low: float
    high: float


def label_of(outcome_N: np.ndarray) -> np.ndarray | None:
    """Whether a row lies above the median; None where there are too few rows of either kind."""
    label_N = outcome_N > np.median(outcome_N) if len(outcome_N) else np.zeros(0, bool)
    rarer = min(label_N.sum(), (~label_N).sum())
    return label_N if len(label_N) >= LEAST_ROWS and rarer >= LEAST_OF_EACH else None


def told_by_features(sample: Sample, *, seed: int = 0) -> dict[str, Told]:
    """Every feature by its name; nothing where the sample has no label (`label_of`)."""
    label_N = label_of(sample.outcome)
    if label_N is None:
        return {}
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(label_N) for _ in range(NUM_SHUFFLES)]
    label_NK = np.stack([label_N, *shuffled], axis=1).astype(np.float64)
    is_first_N = rng.permutation(len(label_N)) < len(label_N) // 2
    past_NP = np.stack(list(sample.numbers.values()), axis=1)
    whole_HNK = _explained(past_NP, label_NK, is_first_N)
    told = {}
    for name, values in sample.undated.items():
        told[name] = _told(_cells_of_text(values, past_NP), label_NK, whole_HNK, is_first_N)
    for place, (name, values_N) in enumerate(sample.numbers.items()):
        others_HNK = _explained(np.delete(past_NP, place, axis=1), label_NK, is_first_N)
        told[name] = _told([_number_cells(values_N)], label_NK, others_HNK, is_first_N)
    return told


def _told(
    cells: list[np.ndarray], label_NK: np.ndarray, explained_HNK: np.ndarray, is_first_N: np.ndarray
) -> Told:
    """`cells`: ways to divide the rows by the feature; the teaching half chooses among them."""
    alike_HNK = np.zeros((2, len(label_NK), 1)) + label_NK[:, 0].mean()
    beyond_K = _area(cells, label_NK, explained_HNK, is_first_N)
    alone = _area(cells[:1], label_NK[:, :1], alike_HNK, is_first_N)[0]
    chance_K = beyond_K[1:]
    low, high = float(chance_K.min()), float(chance_K.max())
    return Told(beyond=float(beyond_K[0]), alone=float(alone), low=low, high=high)


def _area(
    cells: list[np.ndarray], label_NK: np.ndarray, explained_HNK: np.ndarray, is_first_N: np.ndarray
) -> np.ndarray:
    """(K,): right pairs over all pairs of a stratum, both halves together; 0.5 without a pair."""
    right_K, pairs_K = np.zeros(label_NK.shape[1]), np.zeros(label_NK.shape[1])
    for teaches_N, explained_NK in zip(_halves(is_first_N), explained_HNK, strict=True):
        judged = np.flatnonzero(~teaches_N)
        left_over_NK = label_NK - explained_NK
        taught = [_taught(cell_N, left_over_NK, teaches_N) for cell_N in cells]
        weight_DK = np.stack([weight_K for weight_K, _ in taught])
        chosen_K = weight_DK.argmax(axis=0)
        for k in range(label_NK.shape[1]):
            cell_N, (_, mean_CK) = cells[chosen_K[k]], taught[chosen_K[k]]
            score = mean_CK[cell_N[judged], k]
            right, pairs = _pairs(label_NK[judged, k] > 0.5, score, _strata(explained_NK[judged, k]))
            right_K[k] += right
            pairs_K[k] += pairs
    return np.where(pairs_K > 0, right_K / np.maximum(pairs_K, 1), 0.5)


def _taught(
    cell_N: np.ndarray, left_over_NK: np.ndarray, teaches_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """((K,) how much the cells explain of the teaching half, (C, K) their shrunken means)."""
    num_cells = int(cell_N.max()) + 1
    count_C = np.bincount(cell_N[teaches_N], minlength=num_cells)
    total_CK = np.zeros((num_cells, left_over_NK.shape[1]))
    np.add.at(total_CK, cell_N[teaches_N], left_over_NK[teaches_N])
    mean_CK = total_CK / (count_C + _SHRINKAGE)[:, None]
    return (count_C[:, None] * mean_CK**2).sum(axis=0), mean_CK


def _pairs(label_N: np.ndarray, score_N: np.ndarray, stratum_N: np.ndarray) -> tuple[float, float]:
    """Pairs of a stratum with one row of each label: those that the score orders rightly (ties half), all."""
    _, place_N = np.unique(score_N, return_inverse=True)
    width = int(place_N.max()) + 1
    at_N, shape = stratum_N * width + place_N, (NUM_STRATA, width)
    yes = np.bincount(at_N[label_N], minlength=NUM_STRATA * width).reshape(shape)
    no = np.bincount(at_N[~label_N], minlength=NUM_STRATA * width).reshape(shape)
    right = (yes * (np.cumsum(no, axis=1) - no / 2)).sum()
    return float(right), float((yes.sum(axis=1) * no.sum(axis=1)).sum())


def _explained(past_NP: np.ndarray, label_NK: np.ndarray, is_first_N: np.ndarray) -> np.ndarray:
    """(H, N, K): labels as a ridge regression on the past of the half that teaches expects them. For its own
    rows it is fitted on the others of it: leave-one-out by leverage, Allen (1974), Technometrics 16, PRESS.
    """
    rank_NP = np.argsort(np.argsort(past_NP, axis=0, kind="stable"), axis=0) / len(past_NP) - 0.5
    log_NP = np.log1p(np.maximum(past_NP, 0.0))
    log_NP = (log_NP - log_NP.mean(axis=0)) / np.maximum(log_NP.std(axis=0), 1e-9)
    design = np.column_stack([np.ones(len(past_NP)), rank_NP, rank_NP**2, log_NP])
    expected_HNK = np.zeros((2, *label_NK.shape))
    for teaches_N, expected_NK in zip(_halves(is_first_N), expected_HNK, strict=True):
        known = design[teaches_N]
        square = known.T @ known + _RIDGE * len(known) * np.eye(design.shape[1])
        weights = np.linalg.solve(square, known.T)
        expected_NK[:] = design @ (weights @ label_NK[teaches_N])
        leverage = np.einsum("nd,dn->n", known, weights)[:, None]
        without_own = (expected_NK[teaches_N] - leverage * label_NK[teaches_N]) / (1.0 - leverage)
        expected_NK[teaches_N] = np.clip(without_own, 0.0, 1.0)
    return expected_HNK


def _halves(is_first_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows teach, each time."""
    return is_first_N, ~is_first_N


def _strata(explained_N: np.ndarray) -> np.ndarray:
    """Tenths of the rows by what the past tells; rows that it tells quite alike share one."""
    edges = np.quantile(explained_N, np.arange(1, NUM_STRATA) / NUM_STRATA)
    return np.searchsorted(edges, explained_N, "left")


def _cells_of_text(values: Sequence[str | None], past_NP: np.ndarray) -> list[np.ndarray]:
    """By value; many numbers or dates by size. And these by what they exceed each number of the past by: a
    total told today is that of the past and what came after it."""
    number_N = _as_numbers(values)
    words = np.array(["" if value is None else f"={value}" for value in values])
    different, word_N = np.unique(words, return_inverse=True)
    if number_N is None:
        return [word_N]
    own_N = word_N if len(different) <= _MOST_CATEGORIES else _number_cells(number_N)
    return [own_N, *[_number_cells(number_N - past_N) for past_N in past_NP.T]]


def _as_numbers(values: Sequence[str | None]) -> np.ndarray | None:
    """Numbers, or days of dates, nan where missing; None for categories."""
    present = {value for value in values if value is not None}
    if len(present) < _LEAST_NUMBERS:
        return None
    for read in (_number, _day):
        read_as = {value: read(value) for value in present}
        if np.isfinite(list(read_as.values())).mean() >= _NUMERIC_SHARE:
            return np.array([np.nan if value is None else read_as[value] for value in values])
    return None


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return np.nan


def _day(value: str) -> float:
    try:
        return float(np.datetime64(value[:10], "D").astype(np.int64)) if len(value) >= 10 else np.nan
    except ValueError:
        return np.nan


def _number_cells(values_N: np.ndarray) -> np.ndarray:
    """Cells of about equally many rows, equal values in one; what is no number has its own, the last."""
    finite_N = np.isfinite(values_N)
    edges = np.zeros(0)
    if finite_N.any():
        edges = np.unique(np.quantile(values_N[finite_N], np.arange(1, NUM_CELLS) / NUM_CELLS))
    return np.where(finite_N, np.searchsorted(edges, values_N, "left"), len(edges) + 1)
