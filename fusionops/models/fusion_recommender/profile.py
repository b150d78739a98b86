"""The tokens of an entity to its one profile."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fusionops.models.fusion_recommender.config import FusionRecommenderConfig
from fusionops.nn import AttentionFusion, DeepFusion, WeightedFusion


class ProfileFusion(nn.Module):
    r"""Fuses named tokens, of which some may be missing, into one vector.

    Parameters
    ----------
    names : sequence of str
        One for each token, in order.
    config : FusionRecommenderConfig
        ``fusion``, ``dim`` and what goes with them.
    residual : str, optional
        The name of the token that also goes past the fusion:
        ``profile = token + gate * fused``, the gate learned. (Skip connection with a learned gate:
        Bachlechner et al. (2021), "ReZero is all you need".)

    Notes
    -----
    Shapes: tokens ``[N, M, D]`` and a bool mask ``[N, M]`` to ``[N, D]``. An entity with no token
    gets zeros.
    """

    gate: nn.Parameter | None

    def __init__(
        self, names: Sequence[str], config: FusionRecommenderConfig, residual: str | None
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        dim = config.dim
        self.kind = nn.Parameter(torch.empty(len(self.names), dim))
        self.blocks = nn.ModuleList()
        self.pool: nn.Module
        if config.fusion == "weighted":
            self.pool = WeightedFusion(len(self.names), dim)
        elif config.fusion == "attention":
            self.pool = AttentionFusion(dim, config.num_heads, num_queries=1)
        else:
            for layer in range(config.num_layers):
                last = layer == config.num_layers - 1
                block = DeepFusion(
                    dim,
                    config.num_heads,
                    dropout=config.dropout,
                    pooling="attention" if last else None,
                )
                self.blocks.append(block)
            self.pool = nn.Identity()
        self.zeros_for_missing = config.missing == "zeros"
        self.residual = None if residual not in self.names else self.names.index(residual)
        if self.residual is None:
            self.register_parameter("gate", None)
        else:
            self.gate = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The initial values: equal kinds of token, an open gate."""
        nn.init.normal_(self.kind, std=0.1 * self.kind.shape[1] ** -0.5)
        if self.gate is not None:
            nn.init.ones_(self.gate)
        for block in self.blocks[-1:]:
            # Behind its last LayerNorm rows have the length of sqrt(D): profiles begin at 1, too.
            with torch.no_grad():
                block.pool.out_proj.weight.mul_(self.kind.shape[1] ** -0.5)  # type: ignore[union-attr, operator]

    def forward(self, tokens: Tensor, mask: Tensor, *, recompute: bool = False) -> Tensor:
        """The profiles.

        Parameters
        ----------
        tokens : Tensor
            ``[N, M, D]``.
        mask : Tensor
            Bool ``[N, M]``: True where a token is present.
        recompute : bool
            For training: make what is between tokens and profile again in the backward pass.

        Returns
        -------
        Tensor
            ``[N, D]``.
        """
        fused = self._fused(tokens, mask, recompute)
        if self.residual is None or self.gate is None:
            return fused
        past = tokens[:, self.residual].masked_fill(~mask[:, self.residual, None], 0)
        return past + self.gate * fused

    def _fused(self, tokens: Tensor, mask: Tensor, recompute: bool) -> Tensor:
        fused, seen = tokens + self.kind, mask
        if self.zeros_for_missing:
            fused = tokens.masked_fill(~mask[..., None], 0) + self.kind
            seen = mask.any(1, keepdim=True).expand_as(mask)  # of nothing there is no profile
        for block in self.blocks:
            fused = block(fused, seen, recompute=recompute)
        if not self.blocks:
            pool = partial(checkpoint, self.pool, use_reentrant=False) if recompute else self.pool
            fused = pool(fused, seen)
        return fused


def drop_tokens(mask: Tensor, rates: Sequence[float]) -> Tensor:
    """The mask without tokens chosen by chance; who would lose all keeps all.

    Parameters
    ----------
    mask : Tensor
        Bool ``[N, M]``.
    rates : sequence of float
        Of each token, the probability to be taken for missing.
    """
    rate = torch.tensor(rates, dtype=torch.float32, device=mask.device)
    kept = mask & (torch.rand(mask.shape, device=mask.device) >= rate)
    return torch.where(kept.any(1, keepdim=True), kept, mask)


def without_token(mask: Tensor, names: Sequence[str], missing: str | None) -> Tensor:
    """A mask ``[N, M]`` in which one of the named tokens, if it is one, is missing everywhere."""
    if missing not in names:
        return mask
    kept = mask.clone()
    kept[:, names.index(missing)] = False
    return kept


class Damping(nn.Module):
    """A learned factor, at first the one that brings rows of unit variance to length 1."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), dim**-0.5))  # FSDP takes no 0-d parameters

    def forward(self, rows: Tensor) -> Tensor:
        """The rows, scaled."""
        return rows * self.weight


def unit_norm(dim: int) -> nn.LayerNorm:
    """A LayerNorm whose rows have length 1 at first, as ids do: no token is louder than others."""
    norm = nn.LayerNorm(dim)
    nn.init.constant_(norm.weight, dim**-0.5)
    return norm


def id_embedding(count: int, dim: int) -> nn.Embedding:
    """A table of ids, quiet at first: what is not learned yet should not be heard."""
    table = nn.Embedding(count, dim)
    nn.init.normal_(table.weight, std=0.1 * dim**-0.5)
    return table
