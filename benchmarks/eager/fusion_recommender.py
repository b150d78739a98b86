"""The deep FusionRecommender in eager PyTorch: everything at once, nothing made again.

The modules have the names of ``fusionops.models.fusion_recommender``, so that the parameters of one
load into the other; what a benchmark does not turn on (events, reviews, tables) is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.MultiheadAttention):
    """Attention among the tokens of each entity, by ``scaled_dot_product_attention``."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__(dim, num_heads, batch_first=True)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """``[N, M, D]`` from itself; mask bool ``[N, M]``."""
        projected = functional.linear(tokens, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        return self._attended(*projected, mask)

    def _attended(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        heads = (x.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for x in (query, key, value))
        fused = functional.scaled_dot_product_attention(*heads, attn_mask=mask[:, None, None])
        return self.out_proj(fused.transpose(1, 2).flatten(2))


class Pooling(Attention):
    """Attention to the tokens from one learned query."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__(dim, num_heads)
        self.query = nn.Parameter(torch.empty(1, dim))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """``[N, M, D]`` to ``[N, D]``."""
        weight, bias, dim = self.in_proj_weight, self.in_proj_bias, self.embed_dim
        query = functional.linear(self.query, weight[:dim], bias[:dim]).expand(len(tokens), 1, dim)
        key, value = functional.linear(tokens, weight[dim:], bias[dim:]).chunk(2, -1)
        return self._attended(query, key, value, mask)[:, 0]


class Block(nn.Module):
    """A pre-norm transformer block and the pooling behind it."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, num_heads)
        self.linear1, self.linear2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.pool = Pooling(dim, num_heads)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``[N, M, D]`` to ``[N, D]``."""
        x = x + self.self_attn(self.norm1(x), mask)
        x = x + self.linear2(functional.gelu(self.linear1(self.norm2(x))))
        return self.pool(self.norm3(x), mask)


class Fusion(nn.Module):
    """Tokens to a profile, of which one token also goes past the fusion."""

    def __init__(self, tokens: int, dim: int, num_heads: int, residual: int) -> None:
        super().__init__()
        self.kind = nn.Parameter(torch.empty(tokens, dim))
        self.gate = nn.Parameter(torch.empty(1))
        self.blocks = nn.ModuleList([Block(dim, num_heads)])
        self.residual = residual

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """``[N, M, D]`` to ``[N, D]``; of every entity one token is present."""
        past = tokens[:, self.residual] * mask[:, self.residual, None]
        return past + self.gate * self.blocks[0](tokens + self.kind, mask)


class ItemTower(nn.Module):
    """All items of the catalogue to profiles."""

    def __init__(self, widths: dict[str, int], items: int, dim: int, num_heads: int) -> None:
        super().__init__()
        self.projections = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(width, dim), nn.LayerNorm(dim))
                for name, width in widths.items()
            }
        )
        self.ids = nn.Embedding(items, dim)
        self.fusion = Fusion(len(widths) + 1, dim, num_heads, residual=len(widths))

    def forward(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """``[P, D]`` from the vectors and the presence of each modality."""
        tokens = [self.projections[name](vectors) for name, vectors in features.items()]
        tokens.append(self.ids.weight)
        known = [*present.values(), torch.ones_like(next(iter(present.values())))]
        return self.fusion(torch.stack(tokens, 1), torch.stack(known, 1))


class UserTower(nn.Module):
    """Histories to profiles of users."""

    def __init__(self, modalities: int, dim: int, num_heads: int) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, dim, bias=False)
        self.fusion = Fusion(modalities + 1, dim, num_heads, residual=0)


class Recommender(nn.Module):
    """The model and its loss.

    Parameters
    ----------
    features, present : dict of str to Tensor
        Of each modality ``[P, width]``, and bool ``[P]``.
    dim, num_heads : int
    """

    def __init__(
        self, features: dict[str, Tensor], present: dict[str, Tensor], dim: int, num_heads: int
    ) -> None:
        super().__init__()
        self.features, self.present = features, present
        widths = {name: vectors.shape[1] for name, vectors in features.items()}
        items = len(next(iter(features.values())))
        self.item_tower = ItemTower(widths, items, dim, num_heads)
        self.user_tower = UserTower(len(widths), dim, num_heads)
        self.loss = nn.Module()
        self.loss.log_scale = nn.Parameter(torch.empty(1))

    def forward(
        self,
        history_items: Tensor,
        history_user: Tensor,
        history_scale: Tensor,
        targets: Tensor,
        target_user: Tensor,
        excluded: tuple[Tensor, Tensor],
        users: int,
        once: bool,
    ) -> Tensor:
        """The mean cross-entropy.

        Parameters
        ----------
        history_items, history_user : Tensor
            ``[T]``, the items of all histories and whose they are.
        history_scale : Tensor
            ``[P]``, with which an item enters a history.
        targets, target_user : Tensor
            ``[N]``, the items asked for and by whom.
        excluded : pair of Tensor
            Rows and columns of the logits that are no negatives.
        users : int
            B.
        once : bool
            Whether there is a row of logits for each user, ``[B, P]``, which takes some algebra, or
            one for each target, ``[N, P]``, which takes ``cross_entropy``.
        """
        item = self.item_tower(self.features, self.present)
        user = self.profiles(item, history_items, history_user, history_scale, users)
        user = self.loss.log_scale.exp() * user
        logits = (user if once else user[target_user]) @ item.T
        if not once:
            logits[excluded] = -torch.inf
            return functional.cross_entropy(logits, targets)
        own = logits[target_user, targets]
        logits[excluded] = -torch.inf
        return functional.softplus(logits.logsumexp(1)[target_user] - own).mean()

    def profiles(
        self, item: Tensor, history: Tensor, owner: Tensor, scale: Tensor, users: int
    ) -> Tensor:
        """``[B, D]`` from the histories over item profiles."""
        count = torch.zeros(users).index_add(0, owner, torch.ones(len(owner)))
        share = scale[history] / count.sqrt()[owner]
        behaviour = _sums(item[history] * share[:, None], owner, users)
        tokens, known = [self.user_tower.projection(behaviour)], [count > 0]
        for name, vectors in self.features.items():
            counted = self.present[name][history].float()
            total = _sums(counted, owner, users)
            mean = _sums(vectors[history] * counted[:, None], owner, users)
            tokens.append(self.item_tower.projections[name](mean / total.clamp(min=1)[:, None]))
            known.append(total > 0)
        return self.user_tower.fusion(torch.stack(tokens, 1), torch.stack(known, 1))


def _sums(rows: Tensor, owner: Tensor, users: int) -> Tensor:
    return rows.new_zeros(users, *rows.shape[1:]).index_add(0, owner, rows)
