"""One profile of a history: mean, weighted sum or attention, over rows or by item ids."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fusionops import ops
from fusionops.nn import _checks

MODES = ("mean", "weighted", "attention")


class HistoryFusion(nn.Module):
    r"""Pools the history of each user, without padding, over given rows or a table of items.

    Parameters
    ----------
    dim : int
        D.
    mode : {"mean", "weighted", "attention"}
        The mean; the sum with weights that come with the call, e.g. of recency; or attention with a
        query.
    num_embeddings : int, optional
        P: the module has its own table of items and histories are ids.
    embedding : torch.nn.Embedding or torch.nn.Parameter, optional
        A table ``[P, D]`` of somebody else's, which is shared: histories are ids. As a
        ``torch.nn.Embedding`` it stays shared also when the model leaves the meta device.
    learned_query : bool
        Of ``"attention"``: one query, a parameter, serves all users. False: it comes with the call.
    device, dtype
        Of the parameters, as for every module of PyTorch.

    Attributes
    ----------
    embedding : torch.nn.Embedding or None
        The table, own or shared; an own one is initialised as ``torch.nn.Embedding`` is.
    query : Parameter or None
        ``[D]``, the learned query; normal with variance ``1 / D`` at first.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong kind, out of range, or without meaning beside another.

    Notes
    -----
    .. math::
        y = \sum_t w_t x_t

    over the rows :math:`x_t` of a history, where :math:`w_t` is 1 over their number, or given, or
    the softmax over t of :math:`x_t \cdot q / \sqrt{D}` with :math:`q` in `query`, as in Zhou et
    al. (2018), "Deep interest network for click-through rate prediction".

    By ids nothing is gathered. To compare in another space map the query: :math:`x_t \cdot (A q)`
    needs no pass over the rows.

    The padding index of a shared table has no meaning here, as histories have no padding: a row is
    a row. The gradient of a table is dense.

    Shapes: rows ``[T, D]`` or ids ``[T]``, and offsets ``[B + 1]``, or jagged ``torch.nested``
    tensors ``[B, *, D]`` or ``[B, *]``, to ``[B, D]`` in the dtype of rows or table (float64,
    float32, bfloat16 or float16).

    Examples
    --------
    >>> import torch
    >>> from fusionops.nn import HistoryFusion
    >>> items = torch.nn.Embedding.from_pretrained(torch.eye(3))
    >>> history = HistoryFusion(3, embedding=items)
    >>> offsets, ids = torch.tensor([0, 2, 2]), torch.tensor([0, 2])
    >>> history(ids, offsets)
    tensor([[0.5000, 0.0000, 0.5000],
            [0.0000, 0.0000, 0.0000]])
    >>> HistoryFusion(3, "attention")(torch.eye(3)[ids], offsets, query=torch.zeros(2, 3))
    tensor([[0.5000, 0.0000, 0.5000],
            [0.0000, 0.0000, 0.0000]])
    """

    embedding: nn.Embedding | None
    query: nn.Parameter | None

    def __init__(
        self,
        dim: int,
        mode: str = "mean",
        *,
        num_embeddings: int | None = None,
        embedding: nn.Embedding | nn.Parameter | None = None,
        learned_query: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.dim = _checks.count("dim", dim)
        self.mode = _checks.choice("mode", mode, MODES)
        if num_embeddings is not None and embedding is not None:
            raise ValueError("embedding: expected None together with num_embeddings, got both")
        self._owns_table = num_embeddings is not None
        table: nn.Embedding | None = None
        if num_embeddings is not None:
            rows = _checks.count("num_embeddings", num_embeddings)
            table = nn.Embedding(rows, self.dim, device=device, dtype=dtype)
        elif embedding is not None:
            table = _shared(embedding, self.dim)
        self.register_module("embedding", table)
        if not _checks.flag("learned_query", learned_query):
            self.register_parameter("query", None)
        elif self.mode != "attention":
            raise ValueError(f"learned_query: expected False for mode {self.mode!r}, got True")
        else:
            self.query = nn.Parameter(torch.empty(self.dim, device=device, dtype=dtype))
            self._reset_query()

    def reset_parameters(self) -> None:
        """The initial values of the own parameters; a shared table is left to its owner."""
        if self.embedding is not None and self._owns_table:
            self.embedding.reset_parameters()
        self._reset_query()

    def _reset_query(self) -> None:
        if self.query is not None:
            nn.init.normal_(self.query, std=self.dim**-0.5)

    def forward(
        self,
        history: Tensor,
        offsets: Tensor | None = None,
        *,
        query: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """One profile for each history.

        Parameters
        ----------
        history : Tensor
            ``[T]``, ids of rows of the table, or ``[T, D]``, the rows, where there is no table; or
            jagged.
        offsets : Tensor, optional
            ``[B + 1]``: history b has the entries ``offsets[b]:offsets[b + 1]``. None where
            `history` is jagged.
        query : Tensor, optional
            ``[B, D]``, for attention without a learned query.
        weights : Tensor, optional
            ``[T]``, or jagged, for ``"weighted"``; not normalised.

        Returns
        -------
        Tensor
            ``[B, D]``; zeros for an empty history.

        Raises
        ------
        TypeError, ValueError, IndexError
            As for :func:`fusionops.history_fusion`; ValueError for a `query` or `weights` that the
            mode has no use for, or misses.
        """
        self._check("query", query, self.mode == "attention" and self.query is None)
        self._check("weights", weights, self.mode == "weighted")
        if self.query is not None:
            query = self.query.expand(_histories(history, offsets), -1)
        if self.embedding is None:
            return ops.history_fusion(history, offsets, query, weights)
        return ops.history_fusion(self.embedding.weight, offsets, query, weights, ids=history)

    def _check(self, name: str, value: Any, wanted: bool) -> None:
        if wanted != (value is not None):
            learned = " with a learned query" if self.query is not None else ""
            raise ValueError(
                f"{name}: expected {'a tensor' if wanted else 'None'} for mode {self.mode!r}"
                f"{learned}, got {type(value).__name__}"
            )

    def extra_repr(self) -> str:
        """The sizes and the mode, for ``repr``."""
        learned = "" if self.query is None else ", learned_query=True"
        return f"{self.dim}, mode={self.mode!r}{learned}"


def _histories(history: Any, offsets: Any) -> int:
    """B; what is no tensor of histories is left to the operator's checks."""
    if isinstance(offsets, Tensor) and offsets.dim() == 1:
        return offsets.shape[0] - 1
    return history.shape[0] if isinstance(history, Tensor) else 0


def _shared(table: Any, dim: int) -> nn.Embedding:
    """The table of somebody else's as an embedding."""
    if isinstance(table, nn.Parameter):
        if table.dim() != 2:
            raise ValueError(f"embedding: expected 2 dimensions, got shape {list(table.shape)}")
        weight, (rows, width) = table, table.shape
        table = nn.Embedding(rows, width, device="meta")
        table.weight = weight
    if not isinstance(table, nn.Embedding):
        raise TypeError(
            f"embedding: expected a torch.nn.Embedding or Parameter, got {type(table).__name__}"
        )
    if table.embedding_dim != dim:
        raise ValueError(f"embedding: expected rows of width {dim}, got {table.embedding_dim}")
    for option in ("max_norm", "scale_grad_by_freq", "sparse"):
        if getattr(table, option):
            raise ValueError(f"embedding: expected one without {option}, got {table}")
    return table
