"""The softmax-weighted sum of the modalities that are present."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusionops import backend, reference
from fusionops.ops import _checks
from fusionops.ops._dtypes import accumulator, without_autocast
from fusionops.ops._library import apply, loop_vmap, operator, register

_op = operator("weighted_fusion")
_backward_op = operator("weighted_fusion_backward")


def weighted_fusion(values: Tensor, logits: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""The softmax-weighted sum over the modalities that are present.

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
    .. math::
        y_b = \sum_{m \in \mathcal{M}_b} \frac{\exp l_{bm}}{\sum_{n \in \mathcal{M}_b} \exp l_{bn}}
        \, v_{bm}

    with :math:`v` in `values`, :math:`l` in `logits`, and :math:`\mathcal{M}_b` the modalities that
    are present.

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
    if backend.serving("weighted_fusion", values) != "kernels":
        # The formula holds no more than a few times its inputs, so that it is the composition, too.
        with without_autocast(values.device):
            return reference.weighted_fusion(values, logits, mask)
    fused: Tensor = apply(_WeightedFusion, _op, values, logits.to(accumulator(values.dtype)), mask)
    return fused


class _WeightedFusion(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, logits: Tensor, mask: Tensor | None) -> Tensor:
        result: Tensor = _op(values, logits, mask)
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needs = ctx.needs_input_grad
        found = apply(
            _WeightedFusionBackward, _backward_op, grad, *ctx.saved_tensors, needs[0], needs[1]
        )
        return found[0] if needs[0] else None, found[1] if needs[1] else None, None


class _WeightedFusionBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad: Tensor,
        values: Tensor,
        logits: Tensor,
        mask: Tensor | None,
        values_wanted: bool,
        logits_wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = _backward_op(
            grad, values, logits, mask, values_wanted, logits_wanted
        )
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError(
            "weighted_fusion can be differentiated once, not twice: use backend 'reference'"
        )


def _fake(values: Tensor, logits: Tensor, mask: Tensor | None) -> Tensor:
    return values.new_empty((values.shape[0], values.shape[2]))


def _fake_backward(
    grad: Tensor,
    values: Tensor,
    logits: Tensor,
    mask: Tensor | None,
    values_wanted: bool,
    logits_wanted: bool,
) -> tuple[Tensor, Tensor]:
    batch, modalities, depth = values.shape
    of_logits = logits.shape if logits_wanted else (0, *logits.shape[1:])
    return (
        values.new_empty((batch if values_wanted else 0, modalities, depth)),
        logits.new_empty(of_logits),
    )


register("weighted_fusion", _fake, _WeightedFusion, loop_vmap(_op))
register(
    "weighted_fusion_backward", _fake_backward, _WeightedFusionBackward, loop_vmap(_backward_op)
)
