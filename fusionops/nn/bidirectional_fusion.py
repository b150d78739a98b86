"""Interactive fusion: user tokens and item tokens attend to each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionops import ops
from fusionops.nn import _checks


class BidirectionalFusion(nn.Module):
    r"""Each side's tokens as what they attend to on the other side, by one matrix of scores.

    Parameters
    ----------
    dim : int
        D, the width of the tokens of both sides.
    project : bool
        Whether each side has a linear map to what is compared and another to what is summed. False:
        no parameters, the tokens themselves.
    bias : bool
        Whether these maps have a bias.
    device, dtype
        Of the parameters, as for every module of PyTorch.

    Attributes
    ----------
    user_proj, item_proj : torch.nn.Linear or None
        ``D -> 2 D``: the first D outputs are compared, the others are summed.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong kind, or out of range.

    Notes
    -----
    .. math::
        S = \frac{(U A) (P B)^\top}{\sqrt{D}},
        \qquad Y_U = \operatorname{softmax}_{\text{rows}} (S) \, P C,
        \qquad Y_P = \operatorname{softmax}_{\text{columns}} (S)^\top \, U E

    with the tokens :math:`U` in `user` and :math:`P` in `item`, the maps :math:`A` and :math:`E` in
    `user_proj` and :math:`B` and :math:`C` in `item_proj`. :math:`S` is computed once and not kept.

    The parallel co-attention of Lu et al. (2016), "Hierarchical question-image co-attention for
    visual question answering".

    Shapes: ``[B, N, D]`` and ``[B, M, D]`` to ``[B, N, D]`` and ``[B, M, D]``, in the dtype of the
    inputs (float64, float32, bfloat16 or float16).

    Examples
    --------
    >>> import torch
    >>> from fusionops.nn import BidirectionalFusion
    >>> user, item = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    >>> from_item, from_user = BidirectionalFusion(2, project=False)(user, item)
    >>> from_item
    tensor([[[0.3333, 0.3333],
             [0.3333, 0.3333]]])
    >>> from_item, from_user = BidirectionalFusion(2)(user, item)
    >>> from_item.shape, from_user.shape
    (torch.Size([1, 2, 2]), torch.Size([1, 3, 2]))
    """

    user_proj: nn.Linear | None
    item_proj: nn.Linear | None

    def __init__(
        self,
        dim: int,
        *,
        project: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.dim = _checks.count("dim", dim)
        bias = _checks.flag("bias", bias)
        for name in ("user_proj", "item_proj"):
            layer = None
            if _checks.flag("project", project):
                layer = nn.Linear(self.dim, 2 * self.dim, bias, device=device, dtype=dtype)
            self.register_module(name, layer)

    def reset_parameters(self) -> None:
        """The initial values of both projections, those of ``torch.nn.Linear``."""
        for layer in (self.user_proj, self.item_proj):
            if layer is not None:
                layer.reset_parameters()

    def forward(
        self,
        user: Tensor,
        item: Tensor,
        *,
        user_mask: Tensor | None = None,
        item_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What each side's tokens take from the other side.

        Parameters
        ----------
        user, item : Tensor
            ``[B, N, D]`` and ``[B, M, D]``.
        user_mask, item_mask : Tensor, optional
            Bool, ``[B, N]`` or ``[N]``, and ``[B, M]`` or ``[M]``: True where a token is present.

        Returns
        -------
        user_from_item, item_from_user : Tensor
            ``[B, N, D]`` and ``[B, M, D]``; zeros where a token is missing, or has nothing to
            attend to.

        Raises
        ------
        TypeError, ValueError
            As for :func:`fusionops.bidirectional_fusion`.
        """
        user, item = _checks.tokens("user", user, self.dim), _checks.tokens("item", item, self.dim)
        user_mask = _checks.present("user_mask", user_mask, "user", user)
        item_mask = _checks.present("item_mask", item_mask, "item", item)
        user, user_value = _projected(self.user_proj, user, user_mask)
        item, item_value = _projected(self.item_proj, item, item_mask)
        return ops.bidirectional_fusion(
            user, item, user_value, item_value, user_mask=user_mask, item_mask=item_mask
        )

    def extra_repr(self) -> str:
        """The sizes, for ``repr``."""
        return f"{self.dim}" + (", project=False" if self.user_proj is None else "")


def _projected(
    layer: nn.Linear | None, side: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """What of a side is compared, and what is summed."""
    if layer is None:
        return side, None
    compared, summed = layer(_checks.blank(side, mask)).chunk(2, -1)
    return compared, summed
