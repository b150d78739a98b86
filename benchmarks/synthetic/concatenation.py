"""The baseline: a two-tower model over concatenated features, in eager PyTorch alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from fusionops.data import Encoded, Interactions
from fusionops.data.ids import Codes

BATCH = 256
TARGET_FRACTION = 0.3

_USERS_AT_A_TIME = 1024


class Concatenation(nn.Module):
    """Item: a perceptron over all features, and an id where wanted. User: the mean of the history.

    Parameters
    ----------
    features : mapping of str to Encoded
        Concatenated, zeros where missing.
    dim : int
        Of both sides.
    ids : bool
        Whether an embedding of the item is concatenated too, zeros for items without history.
    """

    name = "Concatenation"

    def __init__(self, features: Mapping[str, Encoded], dim: int, ids: bool) -> None:
        super().__init__()
        vectors = np.concatenate([one.vectors for one in features.values()], axis=1)
        self.vectors = torch.from_numpy(vectors)
        self.ids = nn.Parameter(0.1 * torch.randn(len(vectors), dim)) if ids else None
        width = vectors.shape[1] + (dim if ids else 0)
        self.layers = nn.Sequential(nn.Linear(width, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.scale = nn.Parameter(torch.tensor(1.0))

    def item_vectors(self) -> Tensor:
        """``[P, dim]``."""
        if self.ids is None:
            return self.layers(self.vectors)
        known = self.ids * self.has_history[:, None]
        return self.layers(torch.cat([self.vectors, known], dim=1))

    def user_vectors(self, history: Tensor, item: Tensor) -> Tensor:
        """``[B, dim]`` from ``[B, P]``, 1 where the user has the item."""
        return self.scale * (history @ item) / history.sum(dim=1, keepdim=True).clamp(min=1)

    def fit(
        self,
        train: Interactions,
        *,
        learning_rate: float,
        epochs: int,
        seed: int,
        after_epoch: Callable[[int], Any] = lambda epoch: None,
    ) -> Concatenation:
        """Full softmax over the items with history: the rest of a history asks for 30 % of it."""
        generator = torch.Generator().manual_seed(seed)
        self.matrix = torch.from_numpy(train.matrix().toarray())
        self.has_history = self.matrix.any(dim=0)
        optimizer = torch.optim.Adam(self.parameters(), lr=learning_rate)
        for epoch in range(1, epochs + 1):
            for users in torch.randperm(len(self.matrix), generator=generator).split(BATCH):
                optimizer.zero_grad()
                self._loss(self.matrix[users], generator).backward()
                optimizer.step()
            after_epoch(epoch)
        return self

    def _loss(self, bought: Tensor, generator: torch.Generator) -> Tensor:
        asked = torch.rand(bought.shape, generator=generator) < TARGET_FRACTION
        history, target = bought * ~asked, bought * asked
        item = self.item_vectors()
        logits = self.user_vectors(history, item) @ item.T
        logits = logits.masked_fill((history > 0) | ~self.has_history, -torch.inf)
        some = (target.sum(dim=1) > 0) & (history.sum(dim=1) > 0)
        wanted = target[some] / target[some].sum(dim=1, keepdim=True)
        # Where the logit is -inf nothing is wanted, and 0 times -inf would be NaN.
        chance = functional.log_softmax(logits[some], dim=1).masked_fill(wanted == 0, 0)
        return -(wanted * chance).sum(dim=1).mean()

    @torch.no_grad()
    def rank(
        self, users: Codes, k: int, *, candidates: Codes | None = None
    ) -> tuple[npt.NDArray[np.float32], Codes]:
        """Scores and codes of the best items that the user does not have, ``[U, k]``."""
        item = self.item_vectors()
        allowed = torch.ones(len(item), dtype=torch.bool)
        if candidates is not None:
            allowed[:] = False
            allowed[torch.from_numpy(candidates)] = True
        parts = []
        for chunk in torch.from_numpy(users).split(_USERS_AT_A_TIME):
            seen = self.matrix[chunk]
            scores = self.user_vectors(seen, item) @ item.T
            parts.append(scores.masked_fill((seen > 0) | ~allowed, -torch.inf).topk(k))
        found = [torch.cat(column) for column in zip(*parts, strict=True)]
        return found[0].numpy(), found[1].numpy()
