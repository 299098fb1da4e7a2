"""The K best items of every user by inner product, nearly: found by short codes, ranked by exact scores.

Items are put into lists by their nearest centre (Sivic & Zisserman 2003) and kept there as quantised codes,
4 bits a component (Jégou et al. 2011; scanned in registers: André et al. 2017). A user is compared with the
codes of the best lists only; of the best candidates, inner products are then computed from the vectors. What
is returned has exact scores; an item that its code places too low, or that lies in another list, is missed.

Legend: B users, V items (row 0 is padding), D width, K ranks, N candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recsys.metrics.ragged import Ragged
from recsys.retrieval.exact import TopItems
from recsys.retrieval.packed import NOTHING, packed, unpacked
from recsys.schema import InputError
from recsys.settings import check_range

BLOCK_USERS = 64  # 16 MiB of candidates' vectors: what a cache may hold
_LEARN_PER_LIST = 64  # items that a centre is learned from
_ADD_ROWS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ApproximateConfig:
    """num_lists: None for about 2.5 times the root of the number of items; num_probes: of them, how many a
    user is compared with; num_candidates: whose inner products are computed. More of the latter two: slower,
    and fewer items are missed. codes: faiss's name for the code of an item; None for 4 bits a component.
    Raises InputError for numbers below 1.
    """

    num_lists: int | None = None
    num_probes: int = 128
    num_candidates: int = 1000
    codes: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_lists is not None:
            check_range("approximate.num_lists", self.num_lists, least=1)
        check_range("approximate.num_probes", self.num_probes, least=1)
        check_range("approximate.num_candidates", self.num_candidates, least=1)


class ApproximateIndex:
    """Answers as `top_items` does, for one catalogue; its vectors stay where they are, the codes come beside.

    `index`: of faiss, by inner product, of rows 1 to V - 1 under their item_index. item_VD, bias_V: as in
    `top_items`; the vectors may be a mapped file (torch.from_numpy of a numpy.memmap).
    """

    def __init__(
        self, index: Any, *, item_VD: torch.Tensor, bias_V: torch.Tensor | None, num_candidates: int
    ) -> None:
        self.index, self._item_VD, self._bias_V = index, item_VD, bias_V
        self.num_candidates = num_candidates

    @classmethod
    def build(
        cls,
        *,
        item_VD: torch.Tensor,
        bias_V: torch.Tensor | None = None,
        config: ApproximateConfig | None = None,
    ) -> ApproximateIndex:
        """Learns centres and codes from some items and adds all, but those whose bias is -inf.

        Raises InputError where faiss is not installed or does not know the codes, for catalogues of few items
        and for vectors that are not finite.
        """
        faiss, config = faiss_module(), config or ApproximateConfig()
        assert item_VD.dtype == torch.float32
        assert item_VD.device.type == "cpu"
        item_C = 1 + (np.arange(len(item_VD) - 1) if bias_V is None else np.flatnonzero(bias_V[1:] > -np.inf))
        num_lists = config.num_lists or max(1, 2 ** round(np.log2(2.5 * max(len(item_C), 1) ** 0.5)))
        width = item_VD.shape[1] + (bias_V is not None)
        codes = config.codes or f"PQ{width}x4fs"
        try:
            index = faiss.index_factory(width, f"IVF{num_lists},{codes}", faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise InputError(
                f"approximate.codes={codes} is none of faiss's codes of {width} components; leave it out, or"
                " name one of its index factory"
            ) from error
        index.cp.seed, index.cp.min_points_per_centroid = config.seed, 1
        index.nprobe = min(config.num_probes, num_lists)

        def vectors(rows: np.ndarray) -> np.ndarray:
            parts = [item_VD[torch.from_numpy(rows)]]
            parts += [] if bias_V is None else [bias_V[torch.from_numpy(rows)][:, None]]
            found: np.ndarray = torch.cat(parts, 1).numpy()
            if not np.isfinite(found).all():
                raise InputError(
                    "item vectors or biases are not finite numbers; see that training did not diverge"
                )
            return found

        random = np.random.default_rng(config.seed)
        most = max(_LEARN_PER_LIST * num_lists, 10_000)
        learned = item_C if len(item_C) <= most else np.sort(random.choice(item_C, most, replace=False))
        try:
            index.train(vectors(learned))
        except RuntimeError as error:
            raise InputError(
                f"faiss cannot learn {codes} codes from {len(learned)} items; where they are few,"
                " leave approximate out, exact retrieval is quick there"
            ) from error
        for start in range(0, len(item_C), _ADD_ROWS):
            rows = item_C[start : start + _ADD_ROWS]
            index.add_with_ids(vectors(rows), rows)
        return cls(index, item_VD=item_VD, bias_V=bias_V, num_candidates=config.num_candidates)

    @torch.inference_mode()
    def top_items(self, *, user_BD: torch.Tensor, k: int, seen: Ragged | None = None) -> TopItems:
        """The k items of each user with the highest user_BD @ item_VD.T + bias_V among the candidates; ties
        by lower item_index, -inf and 0 where candidates run out.

        Seen items are left out of what was found: as many candidates more are sought as a user has seen at
        most. Raises InputError for user vectors that are not finite.
        """
        if not bool(torch.isfinite(user_BD).all()):
            raise InputError("user vectors are not finite numbers; see that training did not diverge")
        faiss_module().omp_set_num_threads(torch.get_num_threads())
        best_BK = np.full((len(user_BD), k), NOTHING)
        for start in range(0, len(user_BD), BLOCK_USERS):
            block = slice(start, start + BLOCK_USERS)
            best_BK[block] = self._best(user_BD[block], k, None if seen is None else _part(seen, block))
        score_BK, item_BK = unpacked(best_BK[:, ::-1])
        return TopItems(torch.from_numpy(score_BK), torch.from_numpy(item_BK))

    def _best(self, user_BD: torch.Tensor, k: int, seen: Ragged | None) -> np.ndarray:
        """int64 (B, K), packed, rising."""
        num_candidates = max(k, self.num_candidates)
        num_candidates += 0 if seen is None else int(seen.lengths.max(initial=0))
        item_BN = self._candidates(user_BD, num_candidates)
        score_BN = self._scores(user_BD, item_BN)
        score_BN[item_BN == 0] = -np.inf
        if seen is not None:
            score_BN[_is_seen(item_BN, seen, num_items=len(self._item_VD))] = -np.inf
        best_BN = packed(score_BN, np.where(np.isneginf(score_BN), 0, item_BN))
        return np.sort(np.partition(best_BN, -k, axis=1)[:, -k:], axis=1)

    def _scores(self, user_BD: torch.Tensor, item_BN: np.ndarray) -> np.ndarray:
        """float32 (B, N)."""
        row_R = torch.from_numpy(item_BN.ravel())
        item_BND = self._item_VD.index_select(0, row_R).view(*item_BN.shape, -1)
        score_BN = torch.bmm(item_BND, user_BD[:, :, None])[:, :, 0]
        if self._bias_V is not None:
            score_BN = score_BN + self._bias_V.index_select(0, row_R).view(item_BN.shape)
        return score_BN.numpy()

    def _candidates(self, user_BD: torch.Tensor, num_candidates: int) -> np.ndarray:
        """int64 (B, N) item_index in rising order, 0 where there are fewer."""
        num_users, width = user_BD.shape
        query_BD = np.zeros((num_users, self.index.d), np.float32)
        query_BD[:, :width] = user_BD.numpy()
        if self._bias_V is not None:
            query_BD[:, width] = 1
        _, item_BN = self.index.search(query_BD, num_candidates)
        return np.sort(np.maximum(item_BN, 0), axis=1)


def _part(seen: Ragged, block: slice) -> Ragged:
    offsets = seen.offsets[block.start : block.stop + 1]
    return Ragged(offsets - offsets[0], seen.values[offsets[0] : offsets[-1]])


def _is_seen(item_BN: np.ndarray, seen: Ragged, *, num_items: int) -> np.ndarray:
    """bool (B, N)."""
    seen_E = np.sort(seen.row_of_entry * num_items + seen.values)
    key_BN = np.arange(len(item_BN))[:, None] * num_items + item_BN
    if not len(seen_E):
        return np.zeros(item_BN.shape, np.bool_)
    place_BN = np.minimum(np.searchsorted(seen_E, key_BN), len(seen_E) - 1)
    is_seen: np.ndarray = seen_E[place_BN] == key_BN
    return is_seen


def faiss_module() -> Any:
    """InputError that says how to get it, where it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            "approximate retrieval needs faiss, which is not installed; pip install 'recsys-aurm[retrieval]'"
        ) from error
    return faiss
