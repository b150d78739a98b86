"""Items to profiles: features, table and id as tokens, fused."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fusionops.models.encoders.table import TableEncoder
from fusionops.models.fusion_recommender.config import FusionRecommenderConfig
from fusionops.models.fusion_recommender.profile import (
    Damping,
    ProfileFusion,
    drop_tokens,
    id_embedding,
    unit_norm,
    without_token,
)
from fusionops.nn._linear import Linear

ID, TABLE = "id", "table"


class ItemTower(nn.Module):
    """Profiles of the items of a catalogue.

    Holds what is known of the items as buffers, so that a saved model needs no other file of
    features.

    Parameters
    ----------
    config : FusionRecommenderConfig
        With the sizes of the data.

    Attributes
    ----------
    tokens : tuple of str
        The names of the tokens: the modalities, ``table``, ``id``.
    has_history : Tensor
        Bool ``[P]``: items that somebody has had; only they have an id token, unless ids were
        taken over from another model.
    id_known : Tensor
        Bool ``[P]``: items whose id says something.
    history_scale : Tensor
        ``[P]``, with which an item enters a history.
    """

    numeric: Tensor
    categorical: Tensor
    has_history: Tensor
    id_known: Tensor
    history_scale: Tensor

    def __init__(self, config: FusionRecommenderConfig) -> None:
        super().__init__()
        self.config = config
        n, dim = config.num_items, config.dim
        self.projections = nn.ModuleDict()
        for name, width in config.item_features.items():
            self.register_buffer(f"features_{name}", torch.zeros(n, width))
            self.register_buffer(f"present_{name}", torch.zeros(n, dtype=torch.bool))
            norm = unit_norm(dim) if config.token_norm else Damping(dim)
            self.projections[name] = nn.Sequential(Linear(width, dim), norm)
        self.table: TableEncoder | None = None
        if config.item_columns is not None:
            self.table = TableEncoder(config.item_columns, dim)
            numeric, categorical = self.table.widths
            self.register_buffer("numeric", torch.zeros(n, numeric))
            self.register_buffer("categorical", torch.zeros(n, categorical, dtype=torch.long))
        self.ids: nn.Embedding | None = None
        if config.item_ids:
            self.ids = id_embedding(n, dim)
        self.register_buffer("has_history", torch.zeros(n, dtype=torch.bool))
        self.register_buffer("id_known", torch.zeros(n, dtype=torch.bool))
        self.register_buffer("history_scale", torch.ones(n))
        names = list(config.item_features)
        names += [TABLE] if self.table is not None else []
        names += [ID] if self.ids is not None else []
        self.tokens = tuple(names)
        self.fusion = ProfileFusion(self.tokens, config, ID if config.residual else None)

    def features(self, name: str) -> Tensor:
        """The vectors of a modality, ``[P, width]``."""
        return self.get_buffer(f"features_{name}")

    def presence(self, name: str) -> Tensor:
        """Where a modality is known, bool ``[P]``."""
        return self.get_buffer(f"present_{name}")

    def forward(
        self,
        rows: Tensor | None = None,
        *,
        live: dict[str, tuple[Tensor, Tensor]] | None = None,
        without: str | None = None,
    ) -> Tensor:
        """Profiles of some items.

        Parameters
        ----------
        rows : Tensor, optional
            ``int64 [N]`` codes; by default the catalogue.
        live : dict of str to pair of Tensor, optional
            For a modality, positions ``int64 [L]`` among the rows and vectors ``[L, width]`` that
            stand there in place of the kept ones: those that an encoder has just made, with
            gradient.
        without : str, optional
            A token that is taken for missing.

        Returns
        -------
        Tensor
            ``[N, D]``.
        """
        mask = without_token(self._mask(rows), self.tokens, without)
        if self.training:
            mask = self._dropped(mask)
        parts = self._chunks(rows, self._live_features(rows, live or {}), mask)
        # What lies between tokens and profiles is many times the profiles: of many items it is made
        # again in the backward pass, a chunk at a time and so within the caches.
        recompute = len(mask) > self.config.items_per_chunk and torch.is_grad_enabled()
        profiles = [self._profiles(*part, recompute=recompute) for part in parts]
        return torch.cat(profiles) if len(profiles) != 1 else profiles[0]

    def table_tokens(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens ``[N, D]`` of the table's columns, and where there is one, bool ``[N]``."""
        assert self.table is not None
        tokens: tuple[Tensor, Tensor] = self.table(
            _rows(self.numeric, rows), _rows(self.categorical, rows)
        )
        return tokens

    def _mask(self, rows: Tensor | None) -> Tensor:
        """Which tokens are present, bool ``[N, M]``."""
        columns = [self.presence(name) for name in self.projections]
        if self.table is not None:
            columns.append(self.table.present(self.numeric, self.categorical))
        if self.ids is not None:
            columns.append(self.id_known)
        if not columns:
            return self.has_history.new_zeros(len(self.has_history), 0)
        return torch.stack([_rows(column, rows) for column in columns], 1)

    def _dropped(self, mask: Tensor) -> Tensor:
        """The mask without tokens chosen by chance."""
        config = self.config
        own = {ID: config.id_dropout}
        return drop_tokens(mask, [own.get(name, config.modality_dropout) for name in self.tokens])

    def _live_features(
        self, rows: Tensor | None, live: dict[str, tuple[Tensor, Tensor]]
    ) -> dict[str, Tensor]:
        """The features ``[N, width]`` of the modalities that an encoder has vectors for."""
        return {
            name: _rows(self.features(name), rows).index_copy(0, positions, vectors.float())
            for name, (positions, vectors) in live.items()
        }

    def _chunks(
        self, rows: Tensor | None, live: dict[str, Tensor], mask: Tensor
    ) -> Iterator[tuple[dict[str, Tensor], Tensor | None, Tensor | None, Tensor]]:
        """What :meth:`_profiles` takes, a few items at a time."""
        step = self.config.items_per_chunk
        ids = None
        if self.ids is not None:
            # Gathered once: the gradient of every gather is a whole table.
            table = self.ids.weight
            ids = (table if rows is None else nn.functional.embedding(rows, table)).split(step)
        for chunk, start in enumerate(range(0, max(1, len(mask)), step)):
            places = slice(start, min(start + step, len(mask)))
            part = None if rows is None else rows[places]
            features = {
                name: live[name][places]
                if name in live
                else self.features(name)[places if part is None else part]
                for name in self.projections
            }
            table_rows = None
            if self.table is not None:
                table_rows = part
                if part is None:
                    table_rows = torch.arange(places.start, places.stop, device=mask.device)
            yield features, table_rows, None if ids is None else ids[chunk], mask[places]

    def _profiles(
        self,
        features: dict[str, Tensor],
        table_rows: Tensor | None,
        ids: Tensor | None,
        mask: Tensor,
        *,
        recompute: bool,
    ) -> Tensor:
        tokens = [self.projections[name](part) for name, part in features.items()]
        if table_rows is not None:
            tokens.append(self.table_tokens(table_rows)[0])
        if ids is not None:
            tokens.append(ids)
        profiles: Tensor = self.fusion(torch.stack(tokens, 1), mask, recompute=recompute)
        return profiles


def _rows(table: Tensor, rows: Tensor | None) -> Tensor:
    return table if rows is None else table.index_select(0, rows)
