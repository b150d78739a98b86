"""The histories of a batch of users, as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fusionops import ops


@dataclass(frozen=True)
class RaggedHistories:
    """What each user of a batch has had, oldest first.

    Attributes
    ----------
    items : Tensor
        ``int64 [T]``, rows of the item profiles.
    offsets : Tensor
        ``int64 [B + 1]``.
    weights : Tensor
        ``[T]``, above 0.
    events : Tensor or None
        ``int64 [T]``, the kind of each.
    """

    items: Tensor
    offsets: Tensor
    weights: Tensor
    events: Tensor | None = None

    def of_event(self, event: int) -> RaggedHistories:
        """What of these histories is of one kind of event."""
        assert self.events is not None
        kept = self.events == event
        before = nn.functional.pad(kept.cumsum(0), (1, 0))
        return RaggedHistories(
            self.items[kept], before[self.offsets], self.weights[kept], self.events[kept]
        )

    def lengths(self) -> Tensor:
        """Entries of each history, ``[B]``."""
        return self.offsets.diff()

    def total(self, values: Tensor) -> Tensor:
        """The sum of ``[T]`` values over each history, ``[B]``."""
        ones = torch.ones_like(values)
        return ops.history_fusion(values[:, None], self.offsets, weights=ones)[:, 0]

    def spread(self, values: Tensor) -> Tensor:
        """``[B]`` values at each entry of their history, ``[T]``."""
        return values.repeat_interleave(self.lengths(), output_size=len(self.items))

    def mean(self, table: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted mean of rows of a table, and whether there was any.

        Parameters
        ----------
        table : Tensor
            ``[P, D]``.
        counted : Tensor
            Bool ``[P]``: rows that say something.

        Returns
        -------
        mean : Tensor
            ``[B, D]``.
        present : Tensor
            Bool ``[B]``.
        """
        weights = self.weights * counted[self.items]
        total = self.total(weights)
        share = weights / self.spread(torch.where(total > 0, total, 1))
        return ops.history_fusion(table, self.offsets, weights=share, ids=self.items), total > 0

    def latest(self, count: int) -> tuple[Tensor, Tensor]:
        """The last entries of each history side by side.

        Returns
        -------
        items : Tensor
            ``int64 [B, count]``, oldest first; 0 where the history is shorter.
        present : Tensor
            Bool ``[B, count]``.
        """
        back = torch.arange(count, 0, -1, device=self.offsets.device)
        places = self.offsets[1:, None] - back
        present = places >= self.offsets[:-1, None]
        items = nn.functional.pad(self.items, (0, 1))  # a place to look at where all are empty
        return items[places.clamp(min=0)].masked_fill(~present, 0), present
