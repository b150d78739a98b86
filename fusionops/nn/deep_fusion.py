"""A transformer block over modality tokens of which some may be missing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from torch.utils.checkpoint import checkpoint

from fusionops import ops
from fusionops.nn import _checks
from fusionops.nn._linear import Linear
from fusionops.nn.attention_fusion import AttentionFusion

POOLINGS = ("mean", "attention")


class DeepFusion(nn.Module):
    r"""A pre-norm transformer block over modality tokens: attention, then a network for each token.

    Parameters
    ----------
    dim : int
        D.
    num_heads : int
        H, which must divide D.
    hidden_dim : int, optional
        Of the network; ``4 * dim`` by default.
    dropout : float
        In training, of attention weights, of the hidden layer and of both branches.
    pooling : {"mean", "attention"}, optional
        What makes one vector of an entity's tokens, after a last LayerNorm: their mean, or
        attention with a learned query. None: the tokens are returned.
    bias : bool
        Whether layers have a bias.
    eps : float
        Of the LayerNorms, ``> 0``.
    device, dtype
        Of the parameters, as for every module of PyTorch.

    Attributes
    ----------
    self_attn, linear1, linear2, norm1, norm2
        Named and initialised as those of ``torch.nn.TransformerEncoderLayer(dim, num_heads,
        hidden_dim, dropout, "gelu", norm_first=True, batch_first=True)``, whose state dict loads.
    norm3, pool
        Only with `pooling`; `pool`, an :class:`AttentionFusion`, only with ``"attention"``.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong kind, or out of range.

    Notes
    -----
    .. math::
        h = x + \operatorname{attention} (\operatorname{norm}_1 (x)),
        \qquad y = h + W_2 \operatorname{gelu} (W_1 \operatorname{norm}_2 (h))

    with :math:`W_1` and :math:`W_2` the layers `linear1` and `linear2`. Missing tokens are zeros
    where they enter and where they leave.

    After Vaswani et al. (2017), "Attention is all you need", and Xiong et al. (2020), "On layer
    normalization in the transformer architecture".

    Shapes: tokens ``[B, M, D]`` and a bool mask ``[B, M]`` or ``[M]`` to ``[B, M, D]``, or ``[B,
    D]`` with pooling, in the dtype of the tokens (float64, float32, bfloat16 or float16).

    Examples
    --------
    >>> import torch
    >>> from fusionops.nn import DeepFusion
    >>> tokens, mask = torch.randn(2, 3, 8), torch.tensor([[True, True, False]] * 2)
    >>> fused = DeepFusion(8, num_heads=2)(tokens, mask)
    >>> fused.shape, fused[:, 2].abs().max().item()
    (torch.Size([2, 3, 8]), 0.0)
    >>> DeepFusion(8, num_heads=2, pooling="attention")(tokens, mask).shape
    torch.Size([2, 8])
    """

    norm3: nn.LayerNorm | None
    pool: AttentionFusion | None

    def __init__(
        self,
        dim: int,
        num_heads: int,
        hidden_dim: int | None = None,
        *,
        dropout: float = 0.0,
        pooling: str | None = None,
        bias: bool = True,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.dim = _checks.count("dim", dim)
        num_heads = _checks.heads(num_heads, self.dim)
        hidden = 4 * self.dim if hidden_dim is None else _checks.count("hidden_dim", hidden_dim)
        self.dropout = _checks.probability("dropout", dropout)
        self.pooling = None if pooling is None else _checks.choice("pooling", pooling, POOLINGS)
        bias = _checks.flag("bias", bias)
        if _checks.number("eps", eps) <= 0:  # a missing token, zeros, is normalised too
            raise ValueError(f"eps: expected a number above 0, got {eps}")
        self.self_attn = AttentionFusion(
            self.dim, num_heads, dropout=dropout, bias=bias, device=device, dtype=dtype
        )
        self.linear1 = Linear(self.dim, hidden, bias, device=device, dtype=dtype)
        self.linear2 = Linear(hidden, self.dim, bias, device=device, dtype=dtype)
        self.norm1, self.norm2, norm3 = (
            nn.LayerNorm(self.dim, eps, bias=bias, device=device, dtype=dtype) for _ in range(3)
        )
        self.register_module("norm3", None if self.pooling is None else norm3)
        self.pool = None
        if self.pooling == "attention":
            self.pool = AttentionFusion(
                self.dim, num_heads, num_queries=1, bias=bias, device=device, dtype=dtype
            )

    def reset_parameters(self) -> None:
        """The initial values of all parts."""
        for part in self.children():
            part.reset_parameters()  # type: ignore[operator] # all of them have one

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, *, recompute: bool = False
    ) -> Tensor:
        """Fuses the tokens of each entity.

        Parameters
        ----------
        tokens : Tensor
            ``[B, M, D]``.
        mask : Tensor, optional
            Bool, ``[B, M]`` or ``[M]``: True where a token is present.
        recompute : bool
            For training: keep only the tokens between the parts (attention, network, pooling), and
            make what lies within them again in the backward pass. What is widest, and quick to
            make, is not kept then.

        Returns
        -------
        Tensor
            ``[B, M, D]``, zeros where a token is missing; or with pooling ``[B, D]``, zeros for an
            entity with nothing present.

        Raises
        ------
        TypeError, ValueError
            As for :func:`fusionops.attention_fusion`.
        """
        tokens = _checks.tokens("tokens", tokens, self.dim)
        mask = _checks.present("mask", mask, "tokens", tokens)
        part = partial(checkpoint, use_reentrant=False) if recompute else _plain
        x = part(self._attended, tokens, mask)
        x = part(self._transformed, x)
        fused: Tensor = part(self._pooled, x, mask)
        return fused

    def _attended(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        x = _checks.blank(tokens, mask)
        return x + self._dropped(self.self_attn.among(self.norm1(x), mask))

    def _transformed(self, x: Tensor) -> Tensor:
        hidden = self._dropped(gelu(self.linear1(self.norm2(x))))
        return x + self._dropped(self.linear2(hidden))

    def _pooled(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.norm3 is None:
            return _checks.blank(x, mask)
        x = self.norm3(x)
        if self.pool is not None:
            pooled: Tensor = self.pool(x, mask)
            return pooled
        return ops.weighted_fusion(x, x.new_zeros(x.shape[1]), mask)

    def _dropped(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, self.dropout, self.training)

    def extra_repr(self) -> str:
        """What the parts do not show, for ``repr``."""
        pooling = "" if self.pooling is None else f", pooling={self.pooling!r}"
        return f"{self.dim}, dropout={self.dropout:g}{pooling}"


def _plain(part: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
    return part(*inputs)
