"""Histories in their order to one vector each: a GRU, and a transformer that only looks back."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from fusionops.ops._ragged import check_offsets


class Behaviour(nn.Module, ABC):
    """What sequence encoders have in common: ragged histories in, one vector each out.

    Parameters
    ----------
    dim : int
        D, of the rows of a history and of its vector.
    max_length : int
        Of a longer history the last rows count.
    """

    def __init__(self, dim: int, max_length: int) -> None:
        super().__init__()
        for name, value in (("dim", dim), ("max_length", max_length)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected an integer of at least 1, got {value!r}")
        self.dim, self.max_length = dim, max_length

    def forward(self, values: Tensor, offsets: Tensor) -> Tensor:
        """The vectors of histories.

        Parameters
        ----------
        values : Tensor
            ``[T, D]``, the rows of all histories one after the other, each from old to new.
        offsets : Tensor
            ``int64 [B + 1]``: history b has the rows ``offsets[b]:offsets[b + 1]``.

        Returns
        -------
        Tensor
            ``[B, D]``; zeros for an empty history.

        Raises
        ------
        ValueError
            `values` are not ``[T, D]``.
        IndexError
            Offsets that do not rise from 0 to T.
        """
        if values.dim() != 2 or values.shape[1] != self.dim:
            raise ValueError(f"values: expected [T, {self.dim}], got {list(values.shape)}")
        check_offsets("offsets:", offsets, len(values), "rows")
        full = (offsets.diff() > 0).nonzero()[:, 0]
        vectors = values.new_zeros(len(offsets) - 1, self.dim)
        if len(full) == 0:
            return vectors
        found = self.encode(*last_rows(values, offsets[full], offsets[full + 1], self.max_length))
        return vectors.index_copy(0, full, found.to(vectors.dtype))

    @abstractmethod
    def encode(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """The vectors ``[B, D]`` of ``rows [B, L, D]``, of which ``lengths [B]`` are real."""

    def extra_repr(self) -> str:
        """The sizes, for ``repr``."""
        return f"{self.dim}, max_length={self.max_length}"


class GRUBehaviour(Behaviour):
    """The last state of a gated recurrent unit (Hidasi et al. 2016, GRU4Rec).

    Parameters
    ----------
    dim : int
        D, of the rows of a history and of its vector.
    num_layers : int
        Of the GRU.
    max_length : int
        Of a longer history the last rows count.
    dropout : float
        Between layers.

    Examples
    --------
    >>> import torch
    >>> GRUBehaviour(4)(torch.randn(3, 4), torch.tensor([0, 2, 2, 3])).shape
    torch.Size([3, 4])
    """

    def __init__(
        self, dim: int, *, num_layers: int = 1, max_length: int = 256, dropout: float = 0.0
    ) -> None:
        super().__init__(dim, max_length)
        self.gru = nn.GRU(dim, dim, num_layers, batch_first=True, dropout=dropout)

    def encode(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """The last state of each history."""
        packed = nn.utils.rnn.pack_padded_sequence(
            rows, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        state: Tensor = self.gru(packed)[1]
        return state[-1]


class TransformerBehaviour(Behaviour):
    """The last state of a transformer that only looks back (Kang and McAuley 2018, SASRec).

    Positions count from the newest row, so that they mean the same in long and short histories.

    Parameters
    ----------
    dim : int
        D, of the rows of a history and of its vector.
    num_heads : int
        Divides D.
    num_layers : int
        Each attention and a hidden layer of 4 D, with their norms before them.
    max_length : int
        Of a longer history the last rows count.
    dropout : float
        Within the layers.

    Raises
    ------
    ValueError
        A size below 1, or heads that do not divide D.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int = 2,
        num_layers: int = 2,
        max_length: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(dim, max_length)
        if isinstance(num_heads, bool) or not isinstance(num_heads, int) or num_heads < 1:
            raise ValueError(f"num_heads: expected an integer of at least 1, got {num_heads!r}")
        if dim % num_heads:
            raise ValueError(f"num_heads: expected a divisor of dim {dim}, got {num_heads}")
        self.positions = nn.Embedding(max_length, dim)
        layer = nn.TransformerEncoderLayer(
            dim, num_heads, 4 * dim, dropout, "gelu", batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(dim)
        # Rows and positions of a length of about 1, as the vectors of items have.
        nn.init.normal_(self.positions.weight, std=dim**-0.5)
        nn.init.constant_(norm.weight, dim**-0.5)
        self.layers = nn.TransformerEncoder(layer, num_layers, norm, enable_nested_tensor=False)

    def encode(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """The state of the newest row of each history."""
        steps = torch.arange(rows.shape[1], device=rows.device)
        age = (lengths[:, None] - 1 - steps).clamp_min(0)
        # Padding comes after what is real, so looking back never meets it.
        ahead = torch.ones(len(steps), len(steps), dtype=torch.bool, device=rows.device).triu(1)
        states: Tensor = self.layers(rows + self.positions(age), mask=ahead, is_causal=True)
        return states[torch.arange(len(rows), device=rows.device), lengths - 1]


def last_rows(values: Tensor, start: Tensor, end: Tensor, max_length: int) -> tuple[Tensor, Tensor]:
    """The last rows of histories, padded on the right with zeros.

    Parameters
    ----------
    values : Tensor
        ``[T, D]``.
    start, end : Tensor
        ``int64 [B]``: history b has the rows ``start[b]:end[b]``.
    max_length : int

    Returns
    -------
    rows : Tensor
        ``[B, L, D]``.
    lengths : Tensor
        ``int64 [B]``.
    """
    lengths = (end - start).clamp(max=max_length)
    steps = torch.arange(int(lengths.max()), device=values.device)
    places = (end - lengths)[:, None] + steps
    real = steps < lengths[:, None]
    rows = values[torch.where(real, places, 0)]
    return torch.where(real.unsqueeze(-1), rows, 0), lengths
