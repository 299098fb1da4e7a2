"""The attention-based user model: event tokens, self-attention, cross-attention, user vectors, item scores.

Legend: B rows, L events, D width, S score width, V items, Q queries, O own items, C cuts, R features.
Output position t of L + 1 knows the first t events of its row and nothing after them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from recsys.batch import Catalogue, Histories
from recsys.nn.attention import GatedBlock, Rotary, attend
from recsys.nn.dropout import Dropout
from recsys.nn.event_tokens import NUM_AMOUNTS, amounts, searched
from recsys.nn.item_tower import ItemTower, ItemTowerConfig
from recsys.nn.learned import learned
from recsys.nn.linear import Linear
from recsys.nn.neighbours import Neighbours
from recsys.nn.norm import RMSNorm, cut_to_unit
from recsys.nn.own_items import OwnItems, Recall, Repeats, own_items
from recsys.nn.tables import ItemTable, ReplicatedTable
from recsys.nn.temperature import Temperature
from recsys.nn.value_heads import ValueHeads, ValueHeadsConfig, ValueOutput
from recsys.schema import PAD, InputError

ITEM_STD, ITEM_BIAS_STD = 0.1, 0.0  # where id vectors and item biases start
POSITIONS = ("learned", "rotary")  # a vector of each place, or angles between places
NUM_POPULARITY = 4  # columns of Catalogue.popularity_TVW: three windows and repurchase


@dataclass(frozen=True, kw_only=True)
class UserModelConfig:
    """Architecture; what the data decides is in `item_tower`, the field sizes and `value_heads`."""

    item_tower: ItemTowerConfig
    value_heads: ValueHeadsConfig | None
    num_event_types: int
    profile_sizes: tuple[int, ...]
    has_time: bool = True
    has_dwell: bool = False  # events tell how long a view kept
    has_queries: bool = False  # searches tell their words
    width: int = 64
    score_width: int = 64
    num_blocks: int = 2
    num_heads: int = 2
    max_length: int = 200
    positions: str = "learned"  # one of POSITIONS
    cross_attention: bool = True
    dropout: float = 0.2
    user_dropout: float = 0.3
    temperature: float = 0.07
    repeats: bool = True
    num_neighbours: int = 0  # 0: none
    activation_checkpointing: bool = False  # blocks keep their input and are computed again in backward

    def __post_init__(self) -> None:
        if self.width % self.num_heads:
            raise InputError(f"model.width {self.width} must be divisible by num_heads {self.num_heads}")
        if self.positions == "rotary" and self.width // self.num_heads % 2:
            raise InputError("model.width / num_heads must be even for positions=rotary")
        if not 0 < self.temperature <= 1:
            raise InputError("model.temperature must lie in (0, 1]: a bare cosine cannot separate items")


class UserStates(NamedTuple):
    """What one pass over histories gives. Position t is the state after the first t events."""

    hidden_BLD: Tensor  # (B, L + 1, D), behaviour states
    user_BLD: Tensor  # (B, L + 1, D), after cross-attention
    item_VS: Tensor  # (V, S + 1), unit item vectors


class ItemStates(NamedTuple):
    """What one pass over the catalogue gives: the same for all histories."""

    token_VD: Tensor  # what an event holds of its item
    content_VD: Tensor  # what is known without the id
    vector_VS: Tensor  # (V, S + 1), unit item vectors


class LinearScores(NamedTuple):
    """Logit = query . item + term, but for own items: what the K best are found by without all logits."""

    user_QS: Tensor  # (Q, S + 1), unit user vectors
    query_QS: Tensor  # (Q, S + 1), these over the temperature
    item_VS: Tensor  # (V, S + 1), unit item vectors
    term_V: Tensor  # -inf for padding
    own: OwnItems
    own_logit_QO: Tensor  # -inf for what the prefix does not hold

    def rows(self, kept_Q: Tensor) -> LinearScores:
        """Of some queries, by a mask or indices."""
        kept_Q = kept_Q.to(self.query_QS.device)
        return self._replace(
            user_QS=self.user_QS[kept_Q],
            query_QS=self.query_QS[kept_Q],
            own=OwnItems(*(column[kept_Q] for column in self.own)),
            own_logit_QO=self.own_logit_QO[kept_Q],
        )


class ItemScores(NamedTuple):
    """Logit = base, and for own items + gain(features); no features in a model without `Repeats`."""

    base_QV: Tensor  # (Q, V), -inf for padding
    own: OwnItems
    feature_QOR: Tensor | None


class UserModel(nn.Module):
    """AURM. Single device, plain torch; the item tables (capacity + 1 rows) may lie elsewhere."""

    def __init__(
        self,
        config: UserModelConfig,
        *,
        lookup: ItemTable | None = None,
        item_bias: ItemTable | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        width = config.width
        num_rows = config.item_tower.capacity + 1
        if lookup is None:
            lookup = ReplicatedTable(num_rows=num_rows, width=width, std=ITEM_STD)
        self.item_tower = ItemTower(config=config.item_tower, lookup=lookup)
        self.item_norm = RMSNorm(width)
        self.event_type = nn.Embedding(config.num_event_types + 1, width, padding_idx=0)
        self.profile = nn.ModuleList(nn.Embedding(s + 1, width, padding_idx=0) for s in config.profile_sizes)
        for table in (self.event_type, *self.profile):
            nn.init.normal_(table.weight, std=0.02)
        self.amount = Linear(NUM_AMOUNTS + config.has_dwell, width)
        self.start = nn.Parameter(torch.randn(width) * 0.1)
        self.position, rotary = None, None
        if config.positions == "rotary":
            rotary = Rotary(head_width=width // config.num_heads, max_positions=config.max_length + 1)
        else:
            self.position = nn.Embedding(config.max_length + 1, width)
            nn.init.normal_(self.position.weight, std=0.02)
        self.blocks = nn.ModuleList(
            GatedBlock(width=width, num_heads=config.num_heads, dropout=config.dropout, rotary=rotary)
            for _ in range(config.num_blocks)
        )
        self.final_norm = RMSNorm(width)
        if config.cross_attention:
            self.cross_query = Linear(width, width)
            self.cross_key = Linear(width, width)
            self.cross_value = Linear(width, width)
            self.cross_out = Linear(width, width)
        self.user_projection = Linear(width, config.score_width)
        self.item_projection = Linear(width, config.score_width)
        self.temperature = Temperature(config.temperature)
        if item_bias is None:
            item_bias = ReplicatedTable(num_rows=num_rows, width=1, std=ITEM_BIAS_STD)
        self.item_bias = item_bias
        self.dropout = Dropout(config.dropout)
        self.user_dropout = Dropout(config.user_dropout)
        self.recall = Recall(width=width, has_time=config.has_time)
        self.repeats = (
            Repeats(num_popularity=NUM_POPULARITY, has_time=config.has_time) if config.repeats else None
        )
        self.neighbours = (
            Neighbours(capacity=config.item_tower.capacity, num_neighbours=config.num_neighbours)
            if config.num_neighbours
            else None
        )
        self.popularity = nn.Linear(NUM_POPULARITY, 1, bias=False)
        self._start_near_neighbours()
        self.value_heads = ValueHeads(config.value_heads) if config.value_heads else None

    def _start_near_neighbours(self) -> None:
        """Begin as an item-to-item model: the user vector is the mean of the history's item vectors."""
        nn.init.eye_(self.item_projection.weight)
        nn.init.normal_(self.user_projection.weight, std=0.01)
        for layer in (self.item_projection, self.user_projection):
            nn.init.zeros_(layer.bias)
        with torch.no_grad():  # recent sales count a little before anything is learned
            self.popularity.weight.copy_(torch.tensor([[0.3] + [0.0] * (NUM_POPULARITY - 1)]))

    def start_items_from(self, vectors_VD: Tensor) -> None:
        """Give the id table these rows (V, D) to start from; rows beyond stay as they are."""
        self.item_tower.lookup.start_from(vectors_VD)

    def item_states(self, catalogue: Catalogue) -> ItemStates:
        raw_VD, content_VD = self.item_tower(catalogue)
        return ItemStates(self.item_norm(raw_VD), content_VD, self.item_vectors(raw_VD))

    def forward(
        self, histories: Histories, catalogue: Catalogue, items: ItemStates | None = None
    ) -> UserStates:
        """`items`: those of the catalogue, where several batches of histories share them."""
        items = self.item_states(catalogue) if items is None else items
        profile_B1D = self._profile(histories)
        words_BLD = searched(histories, self.item_tower.words) if self.config.has_queries else None
        hidden_BLD = self.dropout(self._tokens(histories, items.token_VD, words_BLD) + profile_B1D)
        packing = histories.packing
        if packing is not None:
            hidden_BLD = packing.packed(hidden_BLD)[None]
        for block in self.blocks:
            if self.config.activation_checkpointing and torch.is_grad_enabled():
                hidden_BLD = checkpoint(block, hidden_BLD, packing, use_reentrant=False)
            else:
                hidden_BLD = block(hidden_BLD, packing)
        hidden_BLD = self.final_norm(hidden_BLD)
        if packing is not None:
            hidden_BLD = packing.padded(hidden_BLD[0])
        user_BLD = hidden_BLD
        if self.config.cross_attention:
            content_BLD = F.embedding(histories.item_BL, items.content_VD)
            content_BLD = self._with_start(content_BLD if words_BLD is None else content_BLD + words_BLD)
            user_BLD = hidden_BLD + self._crossed(hidden_BLD, content_BLD, profile_B1D)
        return UserStates(hidden_BLD, user_BLD, items.vector_VS)

    def _crossed(self, hidden_BLD: Tensor, content_BLD: Tensor, profile_B1D: Tensor) -> Tensor:
        """The query is content and profile known at t; keys are the history's content, values its states."""
        mixed_BLD = attend(
            self.cross_query(content_BLD + profile_B1D + hidden_BLD),
            self.cross_key(content_BLD),
            self.cross_value(hidden_BLD),
            num_heads=self.config.num_heads,
        )
        crossed_BLD: Tensor = self.cross_out(mixed_BLD)
        return crossed_BLD

    def item_vectors(self, raw_VD: Tensor) -> Tensor:
        """(V, S + 1) unit vectors: lengths above 1 are cut, and what is missing to 1 goes into a last
        component that user vectors leave 0: a cosine still tells a much wanted item from a rarely wanted one.
        """
        vector_VS, length_V1 = cut_to_unit(self.item_projection(raw_VD))
        rest_V1 = (1 - length_V1.square()).clamp(min=1e-6).sqrt()
        return torch.cat([vector_VS, rest_V1], -1)

    def user_vectors(self, states: UserStates, own: OwnItems) -> Tensor:
        """(Q, S + 1) unit vectors: own items, weighted by attention, and what the states say beyond them."""
        weight_QO = self.user_dropout(self.recall(states.hidden_BLD, own))
        recalled_QS = F.embedding_bag(
            own.item_QO,
            states.item_VS[:, :-1],
            per_sample_weights=weight_QO.to(states.item_VS.dtype),
            mode="sum",
        )
        said_QS = self.user_projection(self.user_dropout(states.user_BLD[own.row_Q, own.length_Q]))
        both_QS = F.normalize(recalled_QS, dim=-1, eps=1e-6) + said_QS
        return F.pad(F.normalize(both_QS, dim=-1, eps=1e-6), (0, 1))

    def position_vectors(self, states: UserStates, histories: Histories, position_N: Tensor) -> Tensor:
        """(N, S): what `user_vectors` gives at the positions row * (L + 1) + prefix length, less the last
        component, which is 0; for a model of data without time. The positions of a row share one attention.
        """
        item_BLS = F.embedding(histories.item_BL, states.item_VS[:, :-1])
        # an event without an item adds nothing
        kept_BL1 = self.user_dropout((histories.item_BL != PAD).to(item_BLS.dtype)[..., None])
        mixed_BLS = self.recall.mix(states.hidden_BLD, item_BLS * kept_BL1, histories.packing)
        state_ND = F.embedding(position_N, states.user_BLD.flatten(0, 1))
        recalled_NS = F.embedding(position_N, mixed_BLS.flatten(0, 1))
        both_NS = F.normalize(recalled_NS, dim=-1, eps=1e-6) + self.user_projection(
            self.user_dropout(state_ND)
        )
        return F.normalize(both_NS, dim=-1, eps=1e-6)

    def item_terms(self, catalogue: Catalogue) -> Tensor:
        """(T, V): bias and what sells at each of the catalogue's times; -inf for padding."""
        bias_V = self.item_bias(catalogue.item_V)[:, 0]
        term_TV = bias_V + self.popularity(catalogue.popularity_TVW)[..., 0]
        return term_TV.masked_fill(catalogue.item_V == PAD, float("-inf"))

    def item_scores(
        self,
        states: UserStates,
        histories: Histories,
        catalogue: Catalogue,
        row_Q: Tensor,
        length_Q: Tensor,
        period_Q: Tensor | None = None,
    ) -> ItemScores:
        """What is known of every item at each query. `period_Q` picks the popularity of the query's time;
        None: the catalogue's only one. The user's silence counts nowhere.
        """
        period_Q = torch.zeros_like(row_Q) if period_Q is None else period_Q
        own = own_items(histories, row_Q, length_Q)
        cosine_QV = self.user_vectors(states, own) @ states.item_VS.T
        nearness_QV = self.temperature(cosine_QV)
        # `item_terms` one by one: summed first they round otherwise, and a resumed run drifts further off
        bias_V = self.item_bias(catalogue.item_V)[:, 0].to(nearness_QV.dtype)
        base_QV = nearness_QV + bias_V + self.popularity(catalogue.popularity_TVW)[..., 0][period_Q]
        if self.neighbours is not None and not self.training:  # in training they know the answers
            base_QV = base_QV + self.neighbours(own, catalogue)
        base_QV = base_QV.masked_fill(catalogue.item_V == PAD, float("-inf"))
        if self.repeats is None:
            return ItemScores(base_QV, own, None)
        popularity_QOW = catalogue.popularity_TVW[period_Q[:, None], own.item_QO]
        feature_QOR = self.repeats.features(own, popularity_QOW, nearness_QV.gather(1, own.item_QO))
        return ItemScores(base_QV, own, feature_QOR)

    def item_logits(self, scores: ItemScores) -> Tensor:
        """(Q, V): cosine / temperature + the item's bias and dated popularity + what own items gain or
        what neighbours say of the others.

        Padding is -inf. The best K are among the nearest by cosine (with the item terms as one more
        component), the history itself and, with `Neighbours`, the items that have a neighbour in it.
        """
        if self.repeats is None or scores.feature_QOR is None:
            return scores.base_QV
        gain_QO = self.repeats.gain(scores.feature_QOR)[..., 0] * scores.own.known_QO
        return scores.base_QV.scatter_add(1, scores.own.item_QO, gain_QO.to(scores.base_QV.dtype))

    @property
    def is_linear(self) -> bool:
        """Whether `linear_scores` has all that the logits are made of; else the catalogue is small, and all
        logits cost little: neighbours reach items that no query holds.
        """
        return self.neighbours is None

    def linear_scores(
        self,
        states: UserStates,
        histories: Histories,
        catalogue: Catalogue,
        row_Q: Tensor,
        length_Q: Tensor,
    ) -> LinearScores:
        """The logits of `item_scores` and `item_logits` in parts, at the catalogue's only time.

        Only where they are a product and a few exceptions: `is_linear`.
        """
        assert self.is_linear, "neighbours are no part of linear scores"
        own = own_items(histories, row_Q, length_Q)
        user_QS = self.user_vectors(states, own)
        query_QS = self.temperature(user_QS)
        term_V = self.item_terms(catalogue)[0]
        own_QOS = states.item_VS[own.item_QO].float()  # unrounded, as the search takes all others
        near_QO = (query_QS.float()[:, None] * own_QOS).sum(-1)
        logit_QO = near_QO + term_V[own.item_QO]
        if self.repeats is not None:
            features_QOR = self.repeats.features(own, catalogue.popularity_TVW[0][own.item_QO], near_QO)
            logit_QO = logit_QO + self.repeats.gain(features_QOR)[..., 0]
        logit_QO = logit_QO.masked_fill(~own.known_QO, float("-inf"))
        return LinearScores(user_QS, query_QS, states.item_VS, term_V, own, logit_QO)

    def value(self, states: UserStates, length_BC: Tensor, features_BCR: Tensor) -> ValueOutput:
        """Value of each row's user at each cut."""
        assert self.value_heads is not None, "this model has no value heads"
        return self.value_heads(states.hidden_BLD, length_BC, features_BCR)

    def _profile(self, histories: Histories) -> Tensor:
        profile_BD = torch.zeros(len(histories.length_B), self.config.width, device=histories.length_B.device)
        for k, table in enumerate(self.profile):
            profile_BD = profile_BD + table(learned(histories.profile_BF[:, k], table))
        return profile_BD[:, None]

    def _with_start(self, event_BLD: Tensor) -> Tensor:
        return torch.cat([self.start.to(event_BLD.dtype).expand(len(event_BLD), 1, -1), event_BLD], 1)

    def _tokens(self, histories: Histories, item_VD: Tensor, words_BLD: Tensor | None) -> Tensor:
        """(B, L + 1, D): item + event type + amounts + words of a search; a start token first."""
        config = self.config
        told_BLA = amounts(histories, has_time=config.has_time, has_dwell=config.has_dwell)
        type_BLD = self.event_type(learned(histories.event_type_BL, self.event_type))
        event_BLD = F.embedding(histories.item_BL, item_VD) + type_BLD + self.amount(told_BLA)
        if words_BLD is not None:
            event_BLD = event_BLD + self.item_norm(words_BLD)  # as an item of these words
        tokens_BLD = self._with_start(event_BLD)
        if self.position is None:
            return tokens_BLD
        order_L = torch.arange(tokens_BLD.shape[1], device=tokens_BLD.device)
        return tokens_BLD + self.position(order_L.clamp(max=self.config.max_length))
