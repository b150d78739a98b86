"""The fusion matrix, ``F = S_UP / sqrt(S_PP)``."""

from __future__ import annotations

from torch import Tensor

from fusionops import backend, reference
from fusionops.ops import _checks, composition
from fusionops.ops._dtypes import without_autocast
from fusionops.ops.bilinear import scores
from fusionops.ops.normalization import Norm, normalize


def fusion_matrix(
    user: Tensor,
    item: Tensor,
    *,
    normalization: str = "diagonal",
    power: float = 0.5,
    ridge: float = 0.0,
    eps: float = 0.0,
) -> Tensor:
    r"""Normalised similarity of every user to every item.

    Parameters
    ----------
    user : Tensor
        ``[*, U, D]``, one row a user. float64, float32, bfloat16 or float16; any strides.
    item : Tensor
        ``[*, P, D]``, one row an item, of the dtype and device of `user`. Leading dimensions
        broadcast as for :func:`torch.matmul`.
    normalization : {"diagonal", "matrix", "cosine", "none"}
        With ``s_ij = user_i . item_j`` and ``s_jj = item_j . item_j``:

        * ``"diagonal"``: ``F_ij = s_ij / sqrt(s_jj + eps)``.
        * ``"matrix"``: ``F = S_UP (S_PP + ridge I)^(-power)`` on the row space of ``S_PP``, by way
          of the ``D x D`` Gram matrix; power 0.5 whitens, 1 is the ridge solution, 0 the plain
          product.
        * ``"cosine"``: ``s_ij / sqrt((s_ii + eps)(s_jj + eps))``.
        * ``"none"``: ``s_ij``.
    power, ridge : float
        Of ``"matrix"``; ``ridge >= 0``.
    eps : float
        Of ``"diagonal"`` and ``"cosine"``, ``>= 0``, in squared units of the vectors.

    Returns
    -------
    Tensor
        ``[*, U, P]`` of the dtype of the inputs; sums are float32 (float64 for float64). A vector
        of zeros has score 0 and gradient 0.

    Raises
    ------
    TypeError
        An argument of the wrong kind or dtype.
    ValueError
        Shapes that do not fit, or a value out of range.

    Notes
    -----
    .. math::
        F_{ij} = \frac{u_i \cdot v_j}{\sqrt{v_j \cdot v_j + \text{eps}}}
        \qquad \text{diagonal}

        F = S_{UP} \, (S_{PP} + \text{ridge} \, I)^{-\text{power}}
        = u \, (v^\top v + \text{ridge} \, I)^{-\text{power}} \, v^\top
        \qquad \text{matrix}

        F_{ij} = \frac{u_i \cdot v_j}
        {\sqrt{(u_i \cdot u_i + \text{eps}) (v_j \cdot v_j + \text{eps})}}
        \qquad \text{cosine}

        F_{ij} = u_i \cdot v_j
        \qquad \text{none}

    with the rows :math:`u_i` of `user` and :math:`v_j` of `item`, :math:`S_{UP} = u v^\top` and
    :math:`S_{PP} = v v^\top`.

    Examples
    --------
    >>> import torch, fusionops
    >>> user, item = torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    >>> fusionops.fusion_matrix(user, item)
    tensor([[1., 0.]])
    """
    norm = Norm(*_checks.norm(normalization, power, ridge, eps))
    user, item = _checks.sides(batched=True, user=user, item=item)
    _checks.same_width(user, item)
    batch = _checks.batch_shape(user=user, item=item)
    server = backend.serving("fusion_matrix", user)
    if server == "reference":
        with without_autocast(user.device):
            return reference.fusion_matrix(user, item, **norm._asdict())
    if server == "composition":
        with without_autocast(user.device):
            return composition.fusion_matrix(user, item, norm)
    sides = normalize(_checks.fold(user, batch), _checks.fold(item, batch), norm)
    return scores(*sides, user.dtype).reshape(*batch, user.shape[-2], item.shape[-2])
