"""Users to profiles: behaviour, what they touched, their reviews, their table and id, fused."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionops import ops
from fusionops.models.encoders.behaviour import GRUBehaviour, TransformerBehaviour
from fusionops.models.encoders.table import TableEncoder
from fusionops.models.fusion_recommender.config import FusionRecommenderConfig
from fusionops.models.fusion_recommender.histories import RaggedHistories
from fusionops.models.fusion_recommender.item_tower import ID, TABLE, ItemTower
from fusionops.models.fusion_recommender.profile import (
    ProfileFusion,
    drop_tokens,
    id_embedding,
    without_token,
)
from fusionops.models.fusion_recommender.reviews import ReviewTokens

BEHAVIOUR, REVIEWS = "behaviour", "reviews"


class UserTower(nn.Module):
    """Profiles of users from their histories over item profiles.

    Parameters
    ----------
    config : FusionRecommenderConfig
        With the sizes of the data.

    Attributes
    ----------
    tokens : tuple of str
        The names of the tokens: ``behaviour`` (one for each kind of event), ``touched`` (one for
        each modality of the items), ``reviews``, ``table``, ``id``.
    """

    numeric: Tensor
    categorical: Tensor

    def __init__(self, config: FusionRecommenderConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.behaviours = tuple(f"{BEHAVIOUR}:{event}" for event in config.events) or (BEHAVIOUR,)
        self.query: nn.Parameter | None = None
        self.sequence: nn.Module | None = None
        if config.behaviour == "attention":
            self.query = nn.Parameter(torch.empty(1, dim))
            nn.init.normal_(self.query, std=dim**-0.5)
        elif config.behaviour == "gru":
            self.sequence = GRUBehaviour(dim, max_length=config.max_history)
        elif config.behaviour == "transformer":
            self.sequence = TransformerBehaviour(
                dim, num_heads=config.num_heads, max_length=config.max_history
            )
        self.projection = nn.Linear(dim, dim, bias=False)
        nn.init.eye_(self.projection.weight)
        self.reviews: ReviewTokens | None = None
        if config.review_width:
            self.reviews = ReviewTokens(
                config.review_width, dim, config.num_reviews, config.num_users
            )
        self.table: TableEncoder | None = None
        if config.user_columns is not None:
            self.table = TableEncoder(config.user_columns, dim)
            numeric, categorical = self.table.widths
            self.register_buffer("numeric", torch.zeros(config.num_users, numeric))
            self.register_buffer(
                "categorical", torch.zeros(config.num_users, categorical, dtype=torch.long)
            )
        self.ids = id_embedding(config.num_users, dim) if config.user_ids else None
        names = list(self.behaviours)
        if config.touched:
            names += [f"touched:{name}" for name in config.item_features]
            names += [] if config.item_columns is None else [f"touched:{TABLE}"]
        names += [REVIEWS] if self.reviews is not None else []
        names += [TABLE] if self.table is not None else []
        names += [ID] if self.ids is not None else []
        self.tokens = tuple(names)
        residual = self.behaviours[0] if config.residual else None
        self.fusion = ProfileFusion(self.tokens, config, residual)

    def forward(
        self,
        item: Tensor,
        histories: RaggedHistories,
        tower: ItemTower,
        rows: Tensor | None,
        users: Tensor,
        reviews: tuple[Tensor, Tensor] | None = None,
        *,
        without: str | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Profiles of some users.

        Parameters
        ----------
        item : Tensor
            ``[N, D]``, profiles of the items that the histories point into.
        histories : RaggedHistories
        tower : ItemTower
            What is known of those items.
        rows : Tensor or None
            ``int64 [N]``, their codes; None for the catalogue.
        users : Tensor
            ``int64 [B]`` codes, -1 for strangers.
        reviews : pair of Tensor, optional
            ``int64 [B + 1]`` offsets and ``int64 [R]`` rows of the reviews that count.
        without : str, optional
            A token that is taken for missing.

        Returns
        -------
        profiles : Tensor
            ``[B, D]``.
        present : Tensor
            Bool ``[B]``, False for users of whom nothing is known.
        """
        found = [self._behaviour(item, part, tower, rows) for part in self._by_event(histories)]
        if self.config.touched:
            found += self._touched(histories, tower, rows)
        if self.reviews is not None:
            found.append(self.reviews(reviews, users))
        known = users >= 0
        code = users.clamp(min=0)
        if self.table is not None:
            numeric, categorical = self.numeric[code], self.categorical[code]
            token, present = self.table(numeric, categorical)
            found.append((token, present & known))
        if self.ids is not None:
            found.append((self.ids(code), known))
        tokens = torch.stack([token for token, _ in found], 1)
        mask = torch.stack([present for _, present in found], 1)
        mask = without_token(mask, self.tokens, without)
        if self.training:
            mask = self._dropped(mask)
        return self.fusion(tokens, mask), mask.any(1)

    def _by_event(self, histories: RaggedHistories) -> list[RaggedHistories]:
        if not self.config.events:
            return [histories]
        return [histories.of_event(event) for event in range(len(self.config.events))]

    def _behaviour(
        self, item: Tensor, histories: RaggedHistories, tower: ItemTower, rows: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """A token of the items themselves, and where there is one."""
        weights, ids, offsets = histories.weights, histories.items, histories.offsets
        squares = histories.total(weights * weights)
        present = squares > 0
        if self.sequence is not None:
            pooled = self.sequence(item[ids], offsets)
        elif self.query is not None:
            query = self.query.expand(len(present), -1)
            pooled = ops.history_fusion(item, offsets, query, ids=ids)
        else:
            # The sum over the square root of the number (Koren 2008, SVD++): more of a history
            # says more, but not in proportion.
            scale = tower.history_scale if rows is None else tower.history_scale[rows]
            share = weights * scale[ids] / histories.spread(torch.where(present, squares, 1).sqrt())
            pooled = ops.history_fusion(item, offsets, weights=share.to(item.dtype), ids=ids)
        return self.projection(pooled), present

    def _touched(
        self, histories: RaggedHistories, tower: ItemTower, rows: Tensor | None
    ) -> list[tuple[Tensor, Tensor]]:
        """A token for each modality: what the items of the history are like, in the mean."""
        found = []
        codes = histories.items if rows is None else rows[histories.items]
        of_catalogue = RaggedHistories(codes, histories.offsets, histories.weights)
        for name in self.config.item_features:
            mean, present = of_catalogue.mean(tower.features(name), tower.presence(name))
            found.append((tower.projections[name](mean), present))
        if tower.table is not None:
            tokens, known = tower.table_tokens(rows)
            found.append(histories.mean(tokens, known))
        return found

    def _dropped(self, mask: Tensor) -> Tensor:
        """The mask without tokens chosen by chance."""
        config = self.config
        own = {ID: config.id_dropout, **dict.fromkeys(self.behaviours, 0.0)}
        return drop_tokens(mask, [own.get(name, config.modality_dropout) for name in self.tokens])
