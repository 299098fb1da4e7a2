"""The K best items of every user by inner product, exactly, a block of scores at a time.

Few scores are looked at one by one: those that reach the user's K-th best score so far.

Legend: B users, V items (row 0 is padding), D width, K ranks; of one block: U users, I items, C scores that
may be among the best, of all its users.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from recsys.metrics.ragged import Ragged
from recsys.retrieval.packed import LAST_ITEM, NOTHING, packed, unpacked
from recsys.schema import InputError

BLOCK_USERS, BLOCK_ITEMS = 256, 6144  # 6 MiB of scores a thread: what a cache may hold
OCTET = 8

_ALL_TRUE = np.ones(OCTET, np.bool_).view(np.uint64)[0]
_LOWEST = np.finfo(np.float32).min  # -inf alone is below it


class TopItems(NamedTuple):
    """score_BK: float32, falling; item_BK: int64 item_index. -inf and 0 where the candidates run out."""

    score_BK: torch.Tensor
    item_BK: torch.Tensor


def top_items(
    *,
    user_BD: torch.Tensor,
    item_VD: torch.Tensor,
    k: int,
    bias_V: torch.Tensor | None = None,
    seen: Ragged | None = None,
) -> TopItems:
    """The k items of each user with the highest user_BD @ item_VD.T + bias_V; ties by lower item_index.

    No candidates are row 0 of the items, items whose score is -inf and what the user's row of `seen` holds.
    Each of torch's threads takes blocks of users through the whole catalogue, a block of items at a time, and
    holds no scores but those of one block. There are no gradients.

    Args:
        user_BD, item_VD, bias_V: float32, on the CPU.
        seen: item_index in any order, repeats allowed; one row for each user.

    Raises InputError for other dtypes, for sizes that do not go together and for scores that are not numbers.
    """
    _check(user_BD, item_VD, k, bias_V, seen)
    user_BD, item_VD = user_BD.detach(), item_VD.detach()
    bias_V = None if bias_V is None else bias_V.detach()
    threads = torch.get_num_threads()
    size = max(1, min(BLOCK_USERS, -(-len(user_BD) // threads)))
    blocks = [slice(start, start + size) for start in range(0, len(user_BD), size)]
    best_BK = np.full((len(user_BD), k), NOTHING)

    def answer(block: slice) -> None:
        hidden = None if seen is None else _Hidden(seen, block)
        best_BK[block] = _best(user_BD[block], item_VD, k, bias_V, hidden)

    _keep_freed_memory()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(answer, blocks))
    finally:
        torch.set_num_threads(threads)  # also what threads begun from here on start with
    score_BK, item_BK = unpacked(best_BK[:, ::-1])
    return TopItems(torch.from_numpy(score_BK), torch.from_numpy(item_BK))


def _check(
    user_BD: torch.Tensor, item_VD: torch.Tensor, k: int, bias_V: torch.Tensor | None, seen: Ragged | None
) -> None:
    """InputError for what top_items cannot answer."""
    tensors = {"user_BD": user_BD, "item_VD": item_VD} | ({} if bias_V is None else {"bias_V": bias_V})
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            raise InputError(
                f"{name} is {tensor.dtype} on {tensor.device.type}, retrieval takes float32 on the CPU; "
                f"hand in {name}.float().cpu()"
            )
    if not (user_BD.ndim == item_VD.ndim == 2 and user_BD.shape[1] == item_VD.shape[1] > 0):
        raise InputError(
            f"user_BD {tuple(user_BD.shape)} and item_VD {tuple(item_VD.shape)} do not go together; hand in "
            "a row for each user and each item, all of one width above 0"
        )
    if bias_V is not None and bias_V.shape != item_VD.shape[:1]:
        raise InputError(
            f"bias_V has shape {tuple(bias_V.shape)}; hand in one number for each of the {len(item_VD)} items"
        )
    if k < 1:
        raise InputError(f"k={k} asks for no items; set it to 1 or more")
    assert len(item_VD) <= LAST_ITEM, "items must be packed in 31 bits"
    if seen is None:
        return
    if seen.num_rows != len(user_BD):
        raise InputError(f"seen has {seen.num_rows} rows; hand in one for each of the {len(user_BD)} users")
    if len(seen.values) and not 0 <= seen.values.min() <= seen.values.max() < len(item_VD):
        raise InputError(
            f"seen names items {seen.values.min()} to {seen.values.max()}, the catalogue ends at "
            f"{len(item_VD) - 1}; leave out items that are not in it"
        )


def _keep_freed_memory() -> None:
    """glibc hands freed memory back page by page unless it once freed a piece as large: twice the time."""
    torch.empty(31, 2**20, dtype=torch.uint8)


class _Hidden:
    """What the users of a block have seen, in the order of items."""

    def __init__(self, seen: Ragged, block: slice) -> None:
        offsets = seen.offsets[block.start : block.stop + 1]
        item_index = seen.values[offsets[0] : offsets[-1]]
        row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        order = np.argsort(item_index)
        self._row, self._item = row[order], item_index[order]

    def hide(self, score_UI: np.ndarray, first_item: int) -> None:
        """Sets scores of a block to -inf, in place."""
        low, high = np.searchsorted(self._item, [first_item, first_item + score_UI.shape[1]])
        score_UI[self._row[low:high], self._item[low:high] - first_item] = -np.inf


def _best(
    user_UD: torch.Tensor, item_VD: torch.Tensor, k: int, bias_V: torch.Tensor | None, hidden: _Hidden | None
) -> np.ndarray:
    """int64 (U, K), packed, rising."""
    user_UD = user_UD.contiguous()
    best_UK = np.full((len(user_UD), k), NOTHING)
    bound_U1 = np.full((len(user_UD), 1), _LOWEST)
    for start in range(0, len(item_VD), BLOCK_ITEMS):
        items = slice(start, start + BLOCK_ITEMS)
        score_UI = _scores(user_UD, item_VD[items], None if bias_V is None else bias_V[items])
        if hidden is not None:
            hidden.hide(score_UI, start)
        if start == 0:
            score_UI[:, 0] = -np.inf
            bound_U1 = np.maximum(bound_U1, _low_bound(score_UI, k))
        user_C, item_C, score_C = _reaching(bound_U1, score_UI)
        if np.isnan(score_C).any():
            raise InputError(
                "some scores are not numbers; look for nan and infinities in user_BD, item_VD and bias_V"
            )
        found_UN = _rows(packed(score_C, start + item_C), user_C, len(score_UI))
        best_UK = np.partition(np.concatenate([best_UK, found_UN], axis=1), -k, axis=1)[:, -k:]
        # What equals the K-th loses to it from here on: later blocks hold higher indices.
        bound_U1 = np.nextafter(unpacked(best_UK[:, :1])[0], np.float32(np.inf))
    return np.sort(best_UK, axis=1)


def _scores(user_UD: torch.Tensor, item_ID: torch.Tensor, bias_I: torch.Tensor | None) -> np.ndarray:
    """float32, as many columns as make whole octets, -inf beyond the last item."""
    item_ID, bias_I = item_ID.contiguous(), None if bias_I is None else bias_I.contiguous()
    if has_onednn():
        score_UI = torch.ops.mkldnn._linear_pointwise(user_UD, item_ID, bias_I, "none", [], "")
    else:
        score_UI = F.linear(user_UD, item_ID, bias_I)
    beyond = -len(item_ID) % OCTET
    return (F.pad(score_UI, (0, beyond), value=-torch.inf) if beyond else score_UI).numpy()


def has_onednn() -> bool:
    """Whether oneDNN multiplies: on AMD twice as fast as MKL, which is what F.linear takes.

    The product is the one that torch.compile puts in place of F.linear; as it has no public name, it may go.
    """
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _low_bound(score_UI: np.ndarray, k: int) -> np.ndarray:
    """(U, 1): k scores of the row at least are as high, and few more; -inf where there are fewer than k.

    The k-th highest of the maxima of octets, which is sooner found than the k-th of all.
    """
    num_users, num_scores = score_UI.shape
    if num_scores >= OCTET * k:
        score_UI = score_UI.reshape(num_users, OCTET, -1).max(1)
    elif num_scores < k:
        return np.full((num_users, 1), -np.inf, np.float32)
    return np.partition(score_UI, -k, axis=1)[:, -k, None]


def _reaching(bound_U1: np.ndarray, score_UI: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, column, score) of every score not below the bound, so of nan too, by row and column.

    Eight bools in a row are looked at as one integer; in most of them all are true.
    """
    below_P = (score_UI < bound_U1).view(np.uint64).ravel()
    octet_P = np.flatnonzero(below_P != _ALL_TRUE)
    place_C = np.flatnonzero(~below_P[octet_P].view(np.bool_))
    place_C += (octet_P[place_C // OCTET] - place_C // OCTET) * OCTET
    user_C = place_C // score_UI.shape[1]
    return user_C, place_C - user_C * score_UI.shape[1], score_UI.ravel()[place_C]


def _rows(value_C: np.ndarray, user_C: np.ndarray, num_users: int) -> np.ndarray:
    """One row for each user, of values that are in the order of users; NOTHING behind the last of a row."""
    counts_U = np.bincount(user_C, minlength=num_users)
    value_UN = np.full((num_users, counts_U.max(initial=0)), NOTHING)
    place_C = np.arange(len(user_C)) - np.repeat(np.cumsum(counts_U) - counts_U, counts_U)
    value_UN[user_C, place_C] = value_C
    return value_UN
