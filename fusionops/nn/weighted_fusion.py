"""A learned softmax gate over the modalities that are present."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionops import ops
from fusionops.nn import _checks


class WeightedFusion(nn.Module):
    r"""The sum of modality tokens, weighted by learned gates that are a softmax over those present.

    Parameters
    ----------
    num_modalities : int
        M.
    dim : int, optional
        D: gates from content, a linear layer ``D -> 1`` that all modalities share and a bias for
        each. None: global gates, the biases alone.
    device, dtype
        Of the parameters, as for every module of PyTorch.

    Attributes
    ----------
    bias : Parameter
        ``[M]``, the logits of the gates, or what is added to them; 0 at first.
    weight : Parameter or None
        ``[D]``, of gates from content; initialised as that of ``torch.nn.Linear(D, 1)``.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong kind, or out of range.

    Notes
    -----
    .. math::
        y = \sum_m \frac{\exp l_m}{\sum_n \exp l_n} \, x_m,
        \qquad l_m = w \cdot x_m + b_m

    over the modalities that are present, with :math:`w` in `weight` (0 for global gates) and
    :math:`b` in `bias`.

    After Arevalo et al. (2017), "Gated multimodal units for information fusion".

    Shapes: tokens ``[B, M, D]`` and a bool mask ``[B, M]`` or ``[M]`` to ``[B, D]`` in the dtype of
    the tokens (float64, float32, bfloat16 or float16).

    Examples
    --------
    >>> import torch
    >>> from fusionops.nn import WeightedFusion
    >>> tokens = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [torch.nan, 0.0]]])
    >>> WeightedFusion(3)(tokens, torch.tensor([True, True, False]))
    tensor([[2., 3.]], grad_fn=...)
    >>> WeightedFusion(3, dim=2)
    WeightedFusion(3, dim=2)
    """

    weight: nn.Parameter | None

    def __init__(
        self,
        num_modalities: int,
        dim: int | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_modalities = _checks.count("num_modalities", num_modalities)
        self.dim = None if dim is None else _checks.count("dim", dim)
        self.bias = nn.Parameter(torch.empty(self.num_modalities, device=device, dtype=dtype))
        if self.dim is None:
            self.register_parameter("weight", None)
        else:
            self.weight = nn.Parameter(torch.empty(self.dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The initial values: equal biases, and the weight of ``torch.nn.Linear``."""
        nn.init.zeros_(self.bias)
        if self.weight is not None:
            bound = self.weight.shape[0] ** -0.5
            nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Fuses the tokens of each entity.

        Parameters
        ----------
        tokens : Tensor
            ``[B, M, D]``.
        mask : Tensor, optional
            Bool, ``[B, M]`` or ``[M]``: True where a modality is present.

        Returns
        -------
        Tensor
            ``[B, D]``; zeros for an entity with nothing present.

        Raises
        ------
        TypeError, ValueError
            As for :func:`fusionops.weighted_fusion`.
        """
        if self.weight is None:
            return ops.weighted_fusion(tokens, self.bias, mask)
        tokens = _checks.tokens("tokens", tokens, self.weight.shape[0])
        mask = _checks.present("mask", mask, "tokens", tokens)
        if tokens.shape[1] != self.num_modalities:
            raise ValueError(
                f"tokens: expected {self.num_modalities} modalities, got {tokens.shape[1]}"
            )
        logits = _checks.blank(tokens, mask) @ self.weight + self.bias
        return ops.weighted_fusion(tokens, logits, mask)

    def extra_repr(self) -> str:
        """The sizes, for ``repr``."""
        return f"{self.num_modalities}" + ("" if self.dim is None else f", dim={self.dim}")
