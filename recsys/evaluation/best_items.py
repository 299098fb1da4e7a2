"""The best candidates of each user: from all item scores, or without them, from what they are made of.

Legend: B users, V items (row 0 is padding), N candidates, O own items, S score width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from recsys.metrics.ragged import Ragged
from recsys.nn.user_model import LinearScores, UserModel
from recsys.policy.candidates import top_candidates
from recsys.policy.slates import PolicyConfig
from recsys.retrieval.exact import top_items


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
    """Whether the best items are all that the policy looks at, and can be found from parts of the scores.

    A model with neighbours has a small catalogue, where all scores cost little.
    """
    needs_few = policy.num_candidates is not None or (
        policy.is_deterministic and policy.category_penalty == 0
    )
    return needs_few and model.neighbours is None


def best_of_parts(
    linear: LinearScores,
    *,
    k: int,
    shift_V: np.ndarray,
    effect_V: np.ndarray | None = None,
    weight_B: np.ndarray | None = None,
    seen: Ragged | None = None,
) -> BestItems:
    """The k items with the highest logit + shift_V + weight_B x effect_V that the user's row of `seen` does
    not hold, exactly.

    Own items have logits of their own: they are left out of the search and put back among what it finds.
    shift_V: float32, -inf for what is no candidate. Raises InputError where scores are not numbers.
    """
    query_BS, item_VS = linear.query_QS.float().cpu(), linear.item_VS.float().cpu()
    item_BO, own_BO = linear.own.item_QO.cpu().numpy(), linear.own.known_QO.cpu().numpy()
    logit_BO = linear.own_logit_QO.float().cpu().numpy() + shift_V[item_BO]
    if effect_V is not None:
        assert weight_B is not None
        logit_BO = logit_BO + weight_B[:, None] * effect_V[item_BO]
        query_BS = torch.cat([query_BS, torch.from_numpy(weight_B)[:, None]], 1)
        item_VS = torch.cat([item_VS, torch.from_numpy(effect_V)[:, None]], 1)
    num_items = len(item_VS)
    row_E, place_E = np.nonzero(own_BO)
    item_E = item_BO[row_E, place_E]
    hidden = Ragged.from_pairs(row_E=row_E, value_E=item_E, num_rows=len(query_BS))
    if seen is not None:
        seen_key_E = seen.row_of_entry * num_items + seen.values
        gone_E = np.isin(row_E * num_items + item_E, seen_key_E)
        logit_BO[row_E[gone_E], place_E[gone_E]] = -np.inf
        hidden = Ragged.from_pairs(
            row_E=np.concatenate([row_E, seen.row_of_entry]),
            value_E=np.concatenate([item_E, seen.values]),
            num_rows=len(query_BS),
        )
    bias_V = linear.term_V.float().cpu() + torch.from_numpy(shift_V)
    found = top_items(user_BD=query_BS, item_VD=item_VS, k=min(k, num_items), bias_V=bias_V, seen=hidden)
    return _merged(found.item_BK.numpy(), found.score_BK.numpy(), item_BO, logit_BO, k=min(k, num_items))


def _merged(
    item_BK: np.ndarray, score_BK: np.ndarray, item_BO: np.ndarray, score_BO: np.ndarray, *, k: int
) -> BestItems:
    """The k best of two lists that have no item in common."""
    item_BN = np.concatenate([item_BK, item_BO], axis=1)
    score_BN = np.concatenate([score_BK, score_BO], axis=1)
    order_BN = np.lexsort((item_BN, -score_BN), axis=1)[:, :k]
    item_BN, score_BN = (np.take_along_axis(array, order_BN, axis=1) for array in (item_BN, score_BN))
    return BestItems(np.where(np.isneginf(score_BN), 0, item_BN), score_BN)
