"""The k best items of every user, ``top_k(F + item_bias)``, streamed over the catalogue."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusionops import backend, reference
from fusionops.ops import _checks, composition
from fusionops.ops._dtypes import accumulator, without_autocast
from fusionops.ops._library import apply, loop_vmap, operator, register
from fusionops.ops._ragged import as_ragged, check_values
from fusionops.ops.bilinear import row_products, scaled
from fusionops.ops.normalization import Norm, normalize_flat

# What the CUDA C++ kernel holds of a list in shared memory.
_CUDA_LIST = 1024

_op = operator("fusion_topk")
_backward_op = operator("fusion_topk_backward")


def fusion_topk(
    user: Tensor,
    item: Tensor,
    k: int,
    *,
    normalization: str = "diagonal",
    power: float = 0.5,
    ridge: float = 0.0,
    eps: float = 0.0,
    item_bias: Tensor | None = None,
    exclude: Any = None,
    allowed: Tensor | None = None,
    candidates: Any = None,
) -> tuple[Tensor, Tensor]:
    r"""The k largest entries of each row of ``F + item_bias``, and where they are.

    Parameters
    ----------
    user, item : Tensor
        ``[U, D]`` and ``[P, D]``, as for :func:`fusionops.fusion_matrix`.
    k : int
        Length of the lists, at least 1. More than there are items pads.
    normalization, power, ridge, eps
        As for :func:`fusionops.fusion_matrix`.
    item_bias : Tensor, optional
        ``[P]``, added to the scores of every user, e.g. log-popularity. Any floating dtype.
    exclude : ragged lists of item indices per user, optional
        Items that may not be recommended, e.g. those already bought: a pair
        ``(offsets [U + 1], indices [nnz])``, a jagged ``torch.nested`` tensor, a torch sparse CSR
        tensor or a scipy CSR matrix (every stored entry counts).
    allowed : Tensor, optional
        Bool, ``[P]`` or ``[U, P]``: True where an item may be recommended.
    candidates : ragged lists of item indices per user, optional
        Only these are scored, the second stage of a two-stage recommender. In the forms of
        `exclude`; an item named twice counts once.

    Returns
    -------
    scores : Tensor
        ``[U, k]``, float64 for float64 inputs and float32 otherwise, descending. Differentiable:
        the gradient goes to the chosen pairs.
    indices : Tensor
        ``[U, k]``, int64. Equal scores stand in ascending order of index. NaN and -inf never enter
        a list; a list with fewer than k entries ends in score -inf, index -1.

    Raises
    ------
    TypeError, ValueError
        As for :func:`fusionops.fusion_matrix`.
    IndexError
        An index in `exclude` or `candidates` that is not in ``[0, P)``, or offsets that do not
        rise from 0 to the number of indices.

    Notes
    -----
    .. math::
        (j_1, \dots, j_k) = \underset{j \in \mathcal{A}_i}{\text{arg top-}k} \; (F_{ij} + b_j)

    for each user i, with :math:`F` of :func:`fusionops.fusion_matrix`, :math:`b` in `item_bias`,
    and :math:`\mathcal{A}_i` the candidates, or all items, that are allowed and not excluded.

    Memory is ``O(U k)``: the ``U x P`` scores never exist. The result has the same bits for any
    number of threads.

    Examples
    --------
    >>> import torch, fusionops
    >>> user, item = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.0, 3.0]])
    >>> seen = (torch.tensor([0, 1]), torch.tensor([1]))
    >>> fusionops.fusion_topk(user, item, 2, exclude=seen)
    (tensor([[0.7071, 0.0000]]), tensor([[0, 2]]))
    """
    norm = Norm(*_checks.norm(normalization, power, ridge, eps))
    k = _checks.count("k", k)
    user, item = _checks.sides(batched=False, user=user, item=item)
    _checks.same_width(user, item)
    users, items = user.shape[0], item.shape[0]
    _checks.list_length("k", k, users)
    if item_bias is not None:
        item_bias = _checks.item_bias(item_bias, item)
    if allowed is not None:
        allowed = _checks.mask("allowed", allowed, users, items, "item", item)
    if exclude is not None:
        exclude = as_ragged("exclude", exclude, users, items, item.device)
    if candidates is not None:
        candidates = as_ragged("candidates", candidates, users, items, item.device)
    filters = {"exclude": exclude, "allowed": allowed, "candidates": candidates}
    server = backend.serving("fusion_topk", user, k <= _CUDA_LIST)
    if server != "kernels" and user.device.type != "meta" and not torch.compiler.is_compiling():
        for name, lists in (("exclude", exclude), ("candidates", candidates)):
            if lists is not None:
                check_values(name, lists, items)
    if server == "reference":
        with without_autocast(user.device):
            return reference.fusion_topk(
                user, item, k, item_bias=item_bias, **filters, **norm._asdict()
            )
    if server == "composition":
        with without_autocast(user.device):
            return composition.fusion_topk(user, item, k, norm, item_bias, **filters)
    user, item, user_scale, item_scale = normalize_flat(user, item, norm)
    lists = (*(exclude or (None, None)), allowed, *(candidates or (None, None)))
    scores, indices = apply(_TopK, _op, user, item, k, user_scale, item_scale, item_bias, *lists)
    return scores, indices


class _TopK(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        user: Tensor,
        item: Tensor,
        k: int,
        user_scale: Tensor | None,
        item_scale: Tensor | None,
        item_bias: Tensor | None,
        exclude_offsets: Tensor | None,
        exclude_indices: Tensor | None,
        allowed: Tensor | None,
        candidate_offsets: Tensor | None,
        candidate_indices: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        # Written out: Dynamo takes *args for the context where no gradient is wanted.
        result: tuple[Tensor, Tensor] = _op(
            user,
            item,
            k,
            user_scale,
            item_scale,
            item_bias,
            exclude_offsets,
            exclude_indices,
            allowed,
            candidate_offsets,
            candidate_indices,
        )
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        user, item, _, user_scale, item_scale = inputs[:5]
        ctx.save_for_backward(user, item, user_scale, item_scale, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        user, item, user_scale, item_scale, indices = ctx.saved_tensors
        sums = apply(_TopKBackward, _backward_op, grad, indices, user, item, user_scale, item_scale)
        toward_user, toward_item, toward_bias = sums
        grads: list[Tensor | None] = [None] * 11
        grads[0] = scaled(toward_user, user_scale, user.dtype)
        grads[1] = scaled(toward_item, item_scale, item.dtype)
        if user_scale is not None:
            grads[3] = row_products(toward_user, user)
        if item_scale is not None:
            grads[4] = row_products(toward_item, item)
        grads[5] = toward_bias
        return tuple(
            g if needed else None for g, needed in zip(grads, ctx.needs_input_grad, strict=True)
        )


class _TopKBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad: Tensor,
        indices: Tensor,
        user: Tensor,
        item: Tensor,
        user_scale: Tensor | None,
        item_scale: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        result: tuple[Tensor, Tensor, Tensor] = _backward_op(
            grad, indices, user, item, user_scale, item_scale
        )
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError(
            "fusion_topk can be differentiated once, not twice: use backend 'reference'"
        )


def _fake(user: Tensor, item: Tensor, k: int, *rest: Tensor | None) -> tuple[Tensor, Tensor]:
    shape = (user.shape[0], k)
    return (
        user.new_empty(shape, dtype=accumulator(user.dtype)),
        user.new_empty(shape, dtype=torch.int64),
    )


def _fake_backward(
    grad: Tensor,
    indices: Tensor,
    user: Tensor,
    item: Tensor,
    user_scale: Tensor | None,
    item_scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    sums = accumulator(user.dtype)
    return (
        user.new_empty(user.shape, dtype=sums),
        item.new_empty(item.shape, dtype=sums),
        item.new_empty(item.shape[:1], dtype=sums),
    )


register("fusion_topk", _fake, _TopK, loop_vmap(_op))
register("fusion_topk_backward", _fake_backward, _TopKBackward, loop_vmap(_backward_op))
