"""The fusion matrix with one normalisation for training and serving."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fusionops import ops
from fusionops.nn import _checks


class FusionMatrix(nn.Module):
    r"""Scores of users for items, and what follows from them, in one normalisation.

    It has no parameters: it holds the normalisation in one place, for the scores themselves, for
    results and for lists.

    Parameters
    ----------
    normalization, power, ridge, eps
        As for :func:`fusionops.fusion_matrix`.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong kind, or out of range.

    Notes
    -----
    .. math::
        F = \frac{S_{UP}}{\sqrt{S_{PP}}},
        \qquad S_{UP} = U P^\top, \quad S_{PP} = P P^\top

    with the rows of :math:`U` in `user` and those of :math:`P` in `item`;
    :func:`fusionops.fusion_matrix` has the readings of the quotient.

    Shapes: `user` ``[*, U, D]`` and `item` ``[*, P, D]`` to ``[*, U, P]``, in the dtype of the
    inputs (float64, float32, bfloat16 or float16).

    Examples
    --------
    >>> import torch
    >>> from fusionops.nn import FusionMatrix
    >>> user, item = torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    >>> matrix = FusionMatrix(normalization="diagonal")
    >>> matrix(user, item)
    tensor([[1., 1.]])
    >>> matrix.recommend(user, item, values=torch.tensor([[1.0], [2.0]]))
    tensor([[3.]])
    >>> scores, indices = matrix.topk(user, item, k=1)
    >>> indices
    tensor([[0]])
    """

    def __init__(
        self,
        *,
        normalization: str = "diagonal",
        power: float = 0.5,
        ridge: float = 0.0,
        eps: float = 0.0,
    ) -> None:
        super().__init__()
        found = _checks.norm(normalization, power, ridge, eps)
        self.normalization, self.power, self.ridge, self.eps = found

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """The fusion matrix ``[*, U, P]``; see :func:`fusionops.fusion_matrix`."""
        return ops.fusion_matrix(user, item, **self._norm())

    def recommend(self, user: Tensor, item: Tensor, values: Tensor) -> Tensor:
        """``F @ values`` without F, ``[*, U, R]``; see :func:`fusionops.fusion_recommend`."""
        return ops.fusion_recommend(user, item, values, **self._norm())

    def topk(self, user: Tensor, item: Tensor, k: int, **options: Any) -> tuple[Tensor, Tensor]:
        """The `k` best items of each user; see :func:`fusionops.fusion_topk` for the `options`."""
        return ops.fusion_topk(user, item, k, **self._norm(), **options)

    def extra_repr(self) -> str:
        """The normalisation, for ``repr``."""
        return ", ".join(f"{name}={value!r}" for name, value in self._norm().items())

    def _norm(self) -> dict[str, Any]:
        return {
            "normalization": self.normalization,
            "power": self.power,
            "ridge": self.ridge,
            "eps": self.eps,
        }
