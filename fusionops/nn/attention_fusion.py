"""Multi-head attention over modality tokens, or pooling of them by learned queries."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionops import ops
from fusionops.nn import _checks
from fusionops.nn._linear import Linear, linear


class AttentionFusion(nn.Module):
    r"""Multi-head attention among modality tokens, toward a context, or from learned queries.

    Parameters
    ----------
    dim : int
        D.
    num_heads : int
        H, which must divide D.
    num_queries : int, optional
        Q: the tokens are pooled by that many learned queries. None: the tokens are the queries.
    dropout : float
        Of the attention weights, in training. What is dropped follows from torch's generator, so
        from ``torch.manual_seed``.
    bias : bool
        Whether the projections have a bias.
    device, dtype
        Of the parameters, as for every module of PyTorch.

    Attributes
    ----------
    in_proj_weight, in_proj_bias, out_proj
        ``[3 D, D]``, ``[3 D]`` and ``torch.nn.Linear(D, D)``, named, laid out and initialised as
        those of ``torch.nn.MultiheadAttention(dim, num_heads, batch_first=True)``, whose state dict
        loads.
    query : Parameter or None
        ``[Q, D]``, the learned queries; normal with variance ``1 / D`` at first.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong kind, or out of range.

    Notes
    -----
    .. math::
        y_h = \operatorname{softmax} \left( \frac{q_h k_h^\top}{\sqrt{D / H}} \right) v_h

    for each head h, with :math:`q`, :math:`k` and :math:`v` projected from the queries and the
    tokens, and the heads side by side projected once more.

    Vaswani et al. (2017), "Attention is all you need"; with learned queries, the pooling by
    multi-head attention of Lee et al. (2019), "Set transformer". There a query's product with a
    projected token is that of a mapped query with the token, :math:`q \cdot (A x) = (A^\top q)
    \cdot x`, and the sum of projected tokens is the projection of a sum: no token is projected,
    each is read once.

    Where ``torch.nn.MultiheadAttention`` takes ``key_padding_mask=~mask`` this takes `mask`. It
    gives zeros, and not NaN or an attention of what is missing, for tokens that are not present.

    Shapes: tokens ``[B, M, D]`` and a bool mask ``[B, M]`` or ``[M]`` to ``[B, M, D]``, with
    learned queries ``[B, Q, D]``, with one ``[B, D]``; in the dtype of the tokens (float64,
    float32, bfloat16 or float16).

    Examples
    --------
    >>> import torch
    >>> from fusionops.nn import AttentionFusion
    >>> tokens, mask = torch.randn(2, 3, 8), torch.tensor([[True, True, False]] * 2)
    >>> fused, weights = AttentionFusion(8, num_heads=2)(tokens, mask, return_weights=True)
    >>> fused.shape, weights.shape
    (torch.Size([2, 3, 8]), torch.Size([2, 2, 3, 3]))
    >>> AttentionFusion(8, num_heads=2, num_queries=1)(tokens, mask).shape
    torch.Size([2, 8])
    """

    query: nn.Parameter | None
    in_proj_bias: nn.Parameter | None

    def __init__(
        self,
        dim: int,
        num_heads: int = 1,
        *,
        num_queries: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.dim = _checks.count("dim", dim)
        self.num_heads = _checks.heads(num_heads, self.dim)
        self.dropout = _checks.probability("dropout", dropout)
        bias = _checks.flag("bias", bias)
        self.in_proj_weight = nn.Parameter(
            torch.empty(3 * self.dim, self.dim, device=device, dtype=dtype)
        )
        if bias:
            self.in_proj_bias = nn.Parameter(torch.empty(3 * self.dim, device=device, dtype=dtype))
        else:
            self.register_parameter("in_proj_bias", None)
        self.out_proj = Linear(self.dim, self.dim, bias, device=device, dtype=dtype)
        if num_queries is None:
            self.register_parameter("query", None)
        else:
            rows = _checks.count("num_queries", num_queries)
            self.query = nn.Parameter(torch.empty(rows, self.dim, device=device, dtype=dtype))
        self._reset_own_parameters()

    def reset_parameters(self) -> None:
        """The initial values, for one seed those of ``torch.nn.MultiheadAttention``."""
        self.out_proj.reset_parameters()
        self._reset_own_parameters()

    def _reset_own_parameters(self) -> None:
        nn.init.xavier_uniform_(self.in_proj_weight)
        if self.in_proj_bias is not None:
            nn.init.zeros_(self.in_proj_bias)
            nn.init.zeros_(self.out_proj.bias)
        if self.query is not None:
            nn.init.normal_(self.query, std=self.dim**-0.5)

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        *,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attends from each token to all of its entity, to a context, or from learned queries.

        Parameters
        ----------
        tokens : Tensor
            ``[B, M, D]``.
        mask : Tensor, optional
            Bool, ``[B, M]`` or ``[M]``: True where a token is present.
        context : Tensor, optional
            ``[B, C, D]``: what the tokens attend to instead of each other (cross-attention).
        context_mask : Tensor, optional
            Bool, ``[B, C]`` or ``[C]``: True where the context is present.
        return_weights : bool
            Also return the attention weights of every head.

        Returns
        -------
        fused : Tensor
            ``[B, M, D]``, with learned queries ``[B, Q, D]``, with one ``[B, D]``; zeros for a
            missing token, and where nothing is present to attend to.
        weights : Tensor
            Only with `return_weights`: ``[B, H, M or Q, M or C]``, after dropout.

        Raises
        ------
        TypeError, ValueError
            As for :func:`fusionops.attention_fusion`.
        """
        tokens = _checks.tokens("tokens", tokens, self.dim)
        mask = _checks.present("mask", mask, "tokens", tokens)
        if context is not None:
            context = _checks.tokens("context", context, self.dim)
            context_mask = _checks.present("context_mask", context_mask, "context", context)
        elif context_mask is not None:
            raise ValueError("context_mask: expected None without a context, got a mask")
        _checks.flag("return_weights", return_weights)
        if self.query is None:
            fused, weights = self._attended(tokens, mask, context, context_mask, return_weights)
        elif context is None:
            fused, weights = self._pooled(self.query, tokens, mask, return_weights)
        else:
            raise ValueError("context: expected None with learned queries, got a tensor")
        return fused if weights is None else (fused, weights)

    def _attended(
        self,
        tokens: Tensor,
        mask: Tensor | None,
        context: Tensor | None,
        context_mask: Tensor | None,
        return_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Attention from the tokens, and its weights where they are wanted."""
        weight, bias, split = self.in_proj_weight, self.in_proj_bias, self.dim
        tokens = _checks.blank(tokens, mask)
        if context is None:
            context_mask = mask
            query, key, value = linear(tokens, weight, bias).chunk(3, -1)
        else:
            biases = (None, None) if bias is None else (bias[:split], bias[split:])
            query = linear(tokens, weight[:split], biases[0])
            context = _checks.blank(context, context_mask)
            key, value = linear(context, weight[split:], biases[1]).chunk(2, -1)
        fused, weights = self._heads(query, key, value, mask, context_mask, return_weights)
        fused = _checks.blank(fused, mask)
        return _blank_without(fused, key, context_mask), weights

    def among(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Attention among tokens, for a caller that makes zeros of the missing ones itself.

        A block of several layers needs zeros where tokens enter and where they leave, and passes
        over memory less in between.

        Parameters
        ----------
        tokens : Tensor
            ``[B, M, D]``, finite where they are missing, too.
        mask : Tensor or None
            Bool ``[B, M]``.

        Returns
        -------
        Tensor
            ``[B, M, D]``; the bias of the last projection where a token is missing.
        """
        query, key, value = linear(tokens, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        return self._heads(query, key, value, mask, mask, False)[0]

    def _heads(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_mask: Tensor | None,
        mask: Tensor | None,
        return_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """What the heads give, projected, and their weights where they are wanted."""
        result = ops.attention_fusion(
            query,
            key,
            value,
            mask,
            num_heads=self.num_heads,
            dropout_p=self._dropout_p(),
            return_weights=return_weights,
            query_mask=query_mask,
        )
        fused, weights = result if isinstance(result, tuple) else (result, None)
        return self.out_proj(fused), weights

    def _pooled(
        self, query: Tensor, tokens: Tensor, mask: Tensor | None, return_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Attention from learned queries: one of an operator's for each pair of head and query."""
        heads, queries, width = self.num_heads, query.shape[0], self.dim // self.num_heads
        weight = self.in_proj_weight.unflatten(0, (3, heads, width))
        bias = None if self.in_proj_bias is None else self.in_proj_bias.unflatten(0, (3, self.dim))
        projected = linear(query, weight[0].flatten(0, 1), None if bias is None else bias[0])
        projected = projected.unflatten(1, (heads, width)).transpose(0, 1)
        # A bias of the keys would move all scores of a query alike: the softmax does not see it.
        mapped = (projected @ weight[1]).flatten(0, 1)
        dropout_p = self._dropout_p()
        result = ops.attention_fusion(
            mapped,
            tokens,
            tokens,
            mask,
            scale=width**-0.5,
            dropout_p=dropout_p,
            return_weights=return_weights or dropout_p > 0,
        )
        sums, weights = result if isinstance(result, tuple) else (result, None)
        sums = sums.unflatten(1, (heads, queries))
        weights = None if weights is None else weights.squeeze(1).unflatten(1, (heads, queries))
        fused = torch.einsum("bhqe,hde->bqhd", sums, weight[2]).flatten(2)
        if bias is not None and weights is not None:  # after dropout they do not add up to 1
            each = weights.sum(-1).transpose(1, 2).unsqueeze(-1)
            fused = fused + (each * bias[2].unflatten(0, (heads, width))).flatten(2)
        elif bias is not None:
            fused = fused + bias[2]
        fused = _blank_without(self.out_proj(fused), tokens, mask)
        return fused.squeeze(1) if queries == 1 else fused, weights if return_weights else None

    def _dropout_p(self) -> float:
        return self.dropout if self.training else 0.0

    def extra_repr(self) -> str:
        """The sizes, for ``repr``."""
        queries = "" if self.query is None else f", num_queries={self.query.shape[0]}"
        dropout = f", dropout={self.dropout:g}" if self.dropout else ""
        return f"{self.dim}, num_heads={self.num_heads}{queries}{dropout}"


def _blank_without(fused: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """`fused` ``[B, Q, D]`` with zeros for entities that have nothing to attend to."""
    if mask is not None:
        return fused.masked_fill(~mask.any(1).view(-1, 1, 1), 0)
    return fused if key.shape[1] else torch.zeros_like(fused)
