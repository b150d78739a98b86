"""Recommendation results, ``R = F R_p``."""

from __future__ import annotations

from torch import Tensor

from fusionops import backend, reference
from fusionops.ops import _checks, composition
from fusionops.ops._dtypes import accumulator, without_autocast
from fusionops.ops.bilinear import contract, scores
from fusionops.ops.normalization import Norm, Normalized, normalize


def fusion_recommend(
    user: Tensor,
    item: Tensor,
    values: Tensor,
    *,
    normalization: str = "diagonal",
    power: float = 0.5,
    ridge: float = 0.0,
    eps: float = 0.0,
) -> Tensor:
    r"""The fusion matrix times feature vectors of the items, without the matrix.

    Parameters
    ----------
    user, item : Tensor
        ``[*, U, D]`` and ``[*, P, D]``, as for :func:`fusionops.fusion_matrix`.
    values : Tensor
        ``[*, P, R]``, the feature vectors ``R_p`` of the items, of the same dtype and device.
    normalization, power, ridge, eps
        As for :func:`fusionops.fusion_matrix`.

    Returns
    -------
    Tensor
        ``[*, U, R]`` of the dtype of the inputs.

    Raises
    ------
    TypeError, ValueError
        As for :func:`fusionops.fusion_matrix`; also where `values` and `item` differ in P.

    Notes
    -----
    .. math::
        R_{ir} = \sum_{j=1}^{P} F_{ij} \, R_{p,jr}

    with :math:`F` of :func:`fusionops.fusion_matrix` and :math:`R_p` in `values`.

    ``F values`` is ``user (item^T values)``: the cost is ``D R (U + P)`` and the memory ``D R``.
    For a few users, or a few items, ``(user item^T) values`` costs less, ``U P (D + R)``; it is
    taken where that is the smaller number. Then ``min(U, P) < 2 min(D, R)``, so its ``U x P``
    scores are at most twice as large as the inputs. The rule looks at the shapes alone.

    Examples
    --------
    >>> import torch, fusionops
    >>> user, item = torch.eye(2), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> fusionops.fusion_recommend(user, item, torch.tensor([[1.0], [3.0]]))
    tensor([[1.],
            [3.]])
    """
    norm = Norm(*_checks.norm(normalization, power, ridge, eps))
    user, item, values = _checks.sides(batched=True, user=user, item=item, values=values)
    _checks.same_width(user, item)
    if values.shape[-2] != item.shape[-2]:
        raise ValueError(
            f"values: expected {item.shape[-2]} rows as item has, got {_checks.describe(values)}"
        )
    batch = _checks.batch_shape(user=user, item=item, values=values)
    server = backend.serving("fusion_matrix", user)
    if server == "reference":
        with without_autocast(user.device):
            return reference.fusion_recommend(user, item, values, **norm._asdict())
    if server == "composition":
        with without_autocast(user.device):
            return composition.fusion_recommend(user, item, values, norm)
    sides = normalize(_checks.fold(user, batch), _checks.fold(item, batch), norm)
    result = _associate(sides, _checks.fold(values, batch))
    return result.reshape(*batch, user.shape[-2], values.shape[-1])


def direct_is_cheaper(users: int, items: int, features: int, outputs: int) -> bool:
    """Whether ``(user item^T) values`` takes fewer operations than ``user (item^T values)``."""
    return users * items * (features + outputs) < features * outputs * (users + items)


def _associate(sides: Normalized, values: Tensor) -> Tensor:
    user, item, user_scale, item_scale = sides
    sums = accumulator(values.dtype)
    if direct_is_cheaper(user.shape[1], item.shape[1], user.shape[2], values.shape[2]):
        matrix = scores(user, item, user_scale, item_scale, sums)
        return contract(matrix.mT, values, None, values.dtype)
    profile = contract(values, item, item_scale, sums)
    return scores(user, profile, user_scale, None, values.dtype)
