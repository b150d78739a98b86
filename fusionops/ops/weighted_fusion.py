"""The softmax-weighted sum of the modalities that are present."""

from __future__ import annotations

from torch import Tensor

from fusionops import reference
from fusionops.ops import _checks
from fusionops.ops._dtypes import without_autocast


def weighted_fusion(values: Tensor, logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """The softmax-weighted sum over the modalities that are present.

    Parameters
    ----------
    values : Tensor
        ``[B, M, D]``: M modality tokens for each of B entities. float64, float32, bfloat16 or
        float16, of any strides; under autocast in its dtype, as for ``torch.matmul``.
    logits : Tensor
        ``[B, M]``, or ``[M]`` where all entities share them; any floating dtype.
    mask : Tensor, optional
        Bool, ``[B, M]`` or ``[M]``: True where a modality is present. What stands in the masked
        places is never read, NaN included, and has gradient 0.

    Returns
    -------
    Tensor
        ``[B, D]`` in the dtype of `values`; zeros for an entity with nothing present.

    Raises
    ------
    TypeError
        An argument that is not a tensor of a dtype listed above.
    ValueError
        Shapes or devices that do not belong together.

    Notes
    -----
    The gated sum of Arevalo et al. (2017), "Gated multimodal units for information fusion", with a
    softmax for a gate. It can be differentiated once, toward `values` and `logits`.

    Examples
    --------
    >>> import torch, fusionops
    >>> values = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [torch.nan, 0.0]]])
    >>> fusionops.weighted_fusion(values, torch.zeros(3), torch.tensor([True, True, False]))
    tensor([[2., 3.]])
    """
    (values,) = _checks.tokens(values=values)
    _checks.floating("logits", logits)
    _checks.same_device("logits", logits, "values", values)
    batch, modalities = values.shape[:2]
    if not _checks.is_row_or_rows(logits, batch, modalities):
        raise ValueError(
            f"logits: expected shape [{modalities}] or [{batch}, {modalities}], "
            f"got {_checks.describe(logits)}"
        )
    mask = _checks.presence("mask", mask, "values", values)
    with without_autocast(values.device):
        return reference.weighted_fusion(values, logits, mask)
