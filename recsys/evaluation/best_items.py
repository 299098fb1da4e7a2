"""The best candidates of each user: from all item scores, or without them, from what they are made of.

Legend: B users, V items (row 0 is padding), N candidates, O own items, S score width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from recsys.metrics.ragged import Ragged
from recsys.nn.user_model import LinearScores, UserModel
from recsys.policy.candidates import top_candidates
from recsys.policy.slates import PolicyConfig
from recsys.retrieval.approximate import ApproximateConfig, ApproximateIndex
from recsys.retrieval.exact import TopItems, top_items
from recsys.schema import InputError

Search = Callable[..., TopItems]  # of user_BD, k and seen


@dataclass(frozen=True)
class BestItems:
    """By falling score, ties by lower item_index; 0 and -inf where the candidates run out.

    item_BN: int64; score_BN: float32.
    """

    item_BN: np.ndarray
    score_BN: np.ndarray

    def first(self, k: int) -> BestItems:
        return BestItems(self.item_BN[:, :k], self.score_BN[:, :k])

    @classmethod
    def of_scores(cls, score_BV: np.ndarray, *, k: int) -> BestItems:
        """From all scores, -inf for what is no candidate."""
        item_BN, score_BN = top_candidates(score_BV, k)
        return cls(np.where(np.isneginf(score_BN), 0, item_BN), score_BN.astype(np.float32))


def finds_without_scores(model: UserModel, policy: PolicyConfig) -> bool:
    """Whether the best items are all that the policy looks at, and can be found from parts of the scores."""
    needs_few = policy.num_candidates is not None or (
        policy.is_deterministic and policy.category_penalty == 0
    )
    return needs_few and model.is_linear


class BestFinder:
    """The items with the highest logit + shift_V + the user's weight x effect_V, from parts of the logits.

    Own items have logits of their own: they are left out of the search and put back among what it finds. The
    search is exact, or by an index of the catalogue that is built before the first answer.

    shift_V: float32, -inf for what is no candidate. effect_V: float32.
    """

    def __init__(
        self,
        *,
        shift_V: np.ndarray,
        effect_V: np.ndarray | None = None,
        approximate: ApproximateConfig | None = None,
    ) -> None:
        self._shift_V, self._effect_V, self._approximate = shift_V, effect_V, approximate
        self._search: Search | None = None

    def best(
        self,
        linear: LinearScores,
        *,
        k: int,
        weight_B: np.ndarray | None = None,
        seen: Ragged | None = None,
    ) -> BestItems:
        """The k best of each user that its row of `seen` does not hold. The items of `linear` must be those
        of the first call. Raises InputError where scores are not numbers.
        """
        self._search = self._search or self._searched(linear)
        query_BS = linear.query_QS.float().cpu()
        item_BO, own_BO = linear.own.item_QO.cpu().numpy(), linear.own.known_QO.cpu().numpy()
        logit_BO = linear.own_logit_QO.float().cpu().numpy() + self._shift_V[item_BO]
        if self._effect_V is not None:
            assert weight_B is not None
            query_BS = torch.cat([query_BS, torch.from_numpy(weight_B)[:, None]], 1)
            logit_BO = logit_BO + weight_B[:, None] * self._effect_V[item_BO]
        if np.isnan(logit_BO).any():
            raise InputError("some scores of own items are not numbers; look at the loss of the model")
        k = min(k, len(self._shift_V))
        hidden = _hidden(item_BO, own_BO, logit_BO, seen, num_items=len(self._shift_V))
        found = self._search(user_BD=query_BS, k=k, seen=hidden)
        return _merged(found.item_BK.numpy(), found.score_BK.numpy(), item_BO, logit_BO, k=k)

    def _searched(self, linear: LinearScores) -> Search:
        item_VS = linear.item_VS.float().cpu()
        if self._effect_V is not None:
            item_VS = torch.cat([item_VS, torch.from_numpy(self._effect_V)[:, None]], 1)
        bias_V = linear.term_V.float().cpu() + torch.from_numpy(self._shift_V)
        if self._approximate is None:
            return partial(top_items, item_VD=item_VS, bias_V=bias_V)
        return ApproximateIndex.build(item_VD=item_VS, bias_V=bias_V, config=self._approximate).top_items


def _hidden(
    item_BO: np.ndarray, own_BO: np.ndarray, logit_BO: np.ndarray, seen: Ragged | None, *, num_items: int
) -> Ragged:
    """What the search leaves out: own items and seen ones. Own items that are seen lose their logit."""
    row_E, place_E = np.nonzero(own_BO)
    item_E = item_BO[row_E, place_E]
    if seen is None:
        return Ragged.from_pairs(row_E=row_E, value_E=item_E, num_rows=len(item_BO))
    is_seen_E = np.isin(row_E * num_items + item_E, seen.row_of_entry * num_items + seen.values)
    logit_BO[row_E[is_seen_E], place_E[is_seen_E]] = -np.inf
    return Ragged.from_pairs(
        row_E=np.concatenate([row_E, seen.row_of_entry]),
        value_E=np.concatenate([item_E, seen.values]),
        num_rows=len(item_BO),
    )


def _merged(
    item_BK: np.ndarray, score_BK: np.ndarray, item_BO: np.ndarray, score_BO: np.ndarray, *, k: int
) -> BestItems:
    """The k best of two lists that have no item in common."""
    item_BN = np.concatenate([item_BK, item_BO], axis=1)
    score_BN = np.concatenate([score_BK, score_BO], axis=1)
    order_BN = np.lexsort((item_BN, -score_BN), axis=1)[:, :k]
    item_BN, score_BN = (np.take_along_axis(array, order_BN, axis=1) for array in (item_BN, score_BN))
    return BestItems(np.where(np.isneginf(score_BN), 0, item_BN), score_BN)
