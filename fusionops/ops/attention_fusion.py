"""Multi-head attention over a handful of modality tokens."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fusionops import backend, reference
from fusionops.ops import _checks, composition_profiles
from fusionops.ops._dtypes import accumulator, without_autocast
from fusionops.ops._library import apply, fold_vmap, loop_vmap, operator, register

# What the CUDA C++ kernel holds in registers.
_CUDA_TOKENS = 32


def _within(query: Tensor, key: Tensor) -> bool:
    return query.shape[1] <= _CUDA_TOKENS and key.shape[1] <= _CUDA_TOKENS


_op = operator("attention_fusion", lambda query, key, *_: _within(query, key))
_backward_op = operator("attention_fusion_backward", lambda *args: _within(*args[4:6]))
_Three = tuple[Tensor, Tensor, Tensor]


def attention_fusion(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    num_heads: int = 1,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: Tensor | None = None,
    return_weights: bool = False,
    query_mask: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Multi-head attention over modality tokens; self-attention, cross-attention or pooling.

    Parameters
    ----------
    query : Tensor
        ``[B, Q, D]``; or ``[Q, D]`` or ``[1, Q, D]`` where all entities share it, as the learned
        query of a pooling does: it is read in place and its gradient is summed over the batch.
        float64, float32, bfloat16 or float16, of any strides; under autocast in its dtype, as for
        ``torch.matmul``.
    key, value : Tensor
        ``[B, M, D]`` and ``[B, M, Dv]``, in the dtype of `query`. They may be one tensor.
    mask : Tensor, optional
        Bool, ``[B, M]`` or ``[M]``: True where a token may be attended to. What stands in the
        masked places is never read, NaN included, and has gradient 0.
    num_heads : int
        H, which must divide D and Dv: head h has the h-th part of the features.
    scale : float, optional
        What products are multiplied by before the softmax; ``1 / sqrt(D / H)`` by default.
    dropout_p : float
        Probability with which a weight is dropped, in ``[0, 1]``; the others are divided by
        ``1 - dropout_p``.
    seed : Tensor, optional
        One int64 number, which decides what is dropped: the same for the backward pass, for any
        number of threads and under ``torch.compile``. Drawn from torch's generator by default.
    return_weights : bool
        Also return the weights.
    query_mask : Tensor, optional
        Bool, ``[B, Q]`` or ``[Q]``: a query that is not present gives zeros, is never read and has
        gradient 0. For self-attention among tokens of which some are missing: both masks are one.

    Returns
    -------
    fused : Tensor
        ``[B, Q, Dv]`` in the dtype of `query`; zeros where nothing is present.
    weights : Tensor
        Only with `return_weights`: ``[B, H, Q, M]``, those that were applied, after dropout.
        Differentiable.

    Raises
    ------
    TypeError
        An argument that is not a tensor of a dtype listed above, or not a number.
    ValueError
        Shapes or devices that do not belong together, or a number out of range.

    Notes
    -----
    .. math::
        y_h = A_h v_h,
        \qquad A_h = \text{softmax} (\text{scale} \cdot q_h k_h^\top)

    for each head h, with :math:`q_h`, :math:`k_h` and :math:`v_h` its part of the features of
    `query`, `key` and `value`, and the softmax along each row over the tokens that are present.

    Vaswani et al. (2017), "Attention is all you need", as ``scaled_dot_product_attention`` with a
    bool `attn_mask` computes it. It can be differentiated once, toward `query`, `key` and `value`.
    Dropout draws from Philox4x32-10; :func:`fusionops.reference.dropout_kept` says how.

    Examples
    --------
    >>> import torch, fusionops
    >>> tokens = torch.eye(3).unsqueeze(0)  # one entity with three modalities
    >>> query, mask = torch.zeros(1, 3), torch.tensor([True, True, False])
    >>> pooled, weights = fusionops.attention_fusion(
    ...     query, tokens, tokens, mask, return_weights=True
    ... )
    >>> pooled, weights
    (tensor([[[0.5000, 0.5000, 0.0000]]]), tensor([[[[0.5000, 0.5000, 0.0000]]]]))
    """
    num_heads = _checks.count("num_heads", num_heads)
    query, key, value = _checked_sides(query, key, value, num_heads)
    scale = None if scale is None else float(_checks.number("scale", scale))
    dropout_p = _checks.number("dropout_p", dropout_p, 0.0)
    if dropout_p > 1:
        raise ValueError(f"dropout_p: expected a number in [0, 1], got {dropout_p}")
    if not isinstance(return_weights, bool):
        raise TypeError(f"return_weights: expected a bool, got {type(return_weights).__name__}")
    mask = _checks.presence("mask", mask, "key", key)
    rows = query.expand(key.shape[0], *query.shape[1:])
    query_mask = _checks.presence("query_mask", query_mask, "query", rows)
    if seed is not None:
        seed = _checked_seed(seed, key)
    elif dropout_p > 0:
        seed = torch.randint(2**63 - 1, (), device=key.device)
    server = backend.serving("attention_fusion", key, _within(query, key))
    if server != "kernels":
        # Weights that are asked for are no smaller than what the composition avoids.
        whole = server == "reference" or return_weights
        serve = reference.attention_fusion if whole else composition_profiles.attention_fusion
        with without_autocast(key.device):
            fused, weights = serve(
                query,
                key,
                value,
                mask,
                num_heads=num_heads,
                scale=_default_scale(key, num_heads) if scale is None else scale,
                query_mask=query_mask,
                dropout_p=dropout_p,
                seed=seed,
            )
        return fused if weights is None or not return_weights else (fused, weights)
    # One tensor for both is read once, and its gradient written once.
    own_value = None if value is key else value
    if query is key or query is own_value:  # Dynamo refuses one tensor in two places of a Function
        query = query.view_as(query)
    if mask is not None and query_mask is mask:
        query_mask = mask.view_as(mask)
    numbers = num_heads, scale, float(dropout_p)
    fused, weights, _ = apply(
        _Attention, _op, query, key, own_value, mask, query_mask, *numbers, seed, return_weights
    )
    return (fused, weights.to(fused.dtype)) if return_weights else fused


def _default_scale(key: Tensor, num_heads: int) -> float:
    return 1 / math.sqrt(max(key.shape[2] // num_heads, 1))


def _checked_sides(query: Any, key: Any, value: Any, num_heads: int) -> tuple[Tensor, ...]:
    """Query ``[B or 1, Q, D]``, key ``[B, M, D]`` and value ``[B, M, Dv]``."""
    _checks.floating("query", query)
    if query.dim() == 2:
        query = query.unsqueeze(0)
    if query.dim() != 3:
        raise ValueError(f"query: expected 2 or 3 dimensions, got {_checks.describe(query)}")
    key, value, query = _checks.tokens(key=key, value=value, query=query)
    _checks.same_batch("value", value, "key", key)
    if query.shape[0] != 1:
        _checks.same_batch("query", query, "key", key)
    if value.shape[1] != key.shape[1]:
        raise ValueError(
            f"value: expected {key.shape[1]} tokens as key has, got {_checks.describe(value)}"
        )
    if query.shape[2] != key.shape[2]:
        raise ValueError(
            f"query: expected rows of width {key.shape[2]} as key has, "
            f"got {_checks.describe(query)}"
        )
    for name, side in (("key", key), ("value", value)):
        if side.shape[2] % num_heads:
            raise ValueError(
                f"num_heads: expected a divisor of the width of {name} ({side.shape[2]}), "
                f"got {num_heads}"
            )
    return query, key, value


def _checked_seed(seed: Any, other: Tensor) -> Tensor:
    if not isinstance(seed, Tensor) or seed.dtype != torch.int64:
        got = seed.dtype if isinstance(seed, Tensor) else type(seed).__name__
        raise TypeError(f"seed: expected an int64 tensor, got {got}")
    _checks.same_device("seed", seed, "key", other)
    if seed.numel() != 1:
        raise ValueError(f"seed: expected one number, got shape {list(seed.shape)}")
    return seed.reshape(())


class _Attention(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        query: Tensor,
        key: Tensor,
        value: Tensor | None,
        mask: Tensor | None,
        query_mask: Tensor | None,
        num_heads: int,
        scale: float | None,
        dropout_p: float,
        seed: Tensor | None,
        weights_wanted: bool,
    ) -> _Three:
        result: _Three = _op(
            query,
            key,
            value,
            mask,
            query_mask,
            num_heads,
            scale,
            dropout_p,
            seed,
            weights_wanted,
        )
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: _Three) -> None:
        query, key, value, mask, query_mask, *numbers, seed, weights_wanted = inputs
        fused, weights, log_sum = output
        ctx.mark_non_differentiable(log_sum)
        if not weights_wanted:
            ctx.mark_non_differentiable(weights)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(fused, log_sum, query, key, value, mask, query_mask, seed)
        ctx.numbers, ctx.weights_wanted = numbers, weights_wanted

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, grad_weights: Tensor | None, _: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        fused, log_sum, query, key, value, mask, query_mask, seed = ctx.saved_tensors
        if grad is None:
            grad = fused.new_zeros(()).expand_as(fused)
        needs = ctx.needs_input_grad[:3]
        found = apply(
            _AttentionBackward,
            _backward_op,
            grad,
            grad_weights if ctx.weights_wanted else None,
            fused,
            log_sum,
            query,
            key,
            value,
            mask,
            query_mask,
            *ctx.numbers,
            seed,
            *needs,
        )
        return *(g if need else None for g, need in zip(found, needs, strict=True)), *[None] * 7


class _AttentionBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad: Tensor,
        grad_weights: Tensor | None,
        fused: Tensor,
        log_sum: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor | None,
        mask: Tensor | None,
        query_mask: Tensor | None,
        num_heads: int,
        scale: float | None,
        dropout_p: float,
        seed: Tensor | None,
        query_wanted: bool,
        key_wanted: bool,
        value_wanted: bool,
    ) -> _Three:
        result: _Three = _backward_op(
            grad,
            grad_weights,
            fused,
            log_sum,
            query,
            key,
            value,
            mask,
            query_mask,
            num_heads,
            scale,
            dropout_p,
            seed,
            query_wanted,
            key_wanted,
            value_wanted,
        )
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: _Three) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError(
            "attention_fusion can be differentiated once, not twice: use backend 'reference'"
        )


def _fake(
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    mask: Tensor | None,
    query_mask: Tensor | None,
    num_heads: int,
    scale: float | None,
    dropout_p: float,
    seed: Tensor | None,
    weights_wanted: bool,
) -> _Three:
    batch, tokens, _ = key.shape
    queries, sums = query.shape[1], accumulator(key.dtype)
    return (
        key.new_empty((batch, queries, (key if value is None else value).shape[2])),
        key.new_empty((batch if weights_wanted else 0, num_heads, queries, tokens), dtype=sums),
        key.new_empty((batch, num_heads, queries), dtype=sums),
    )


def _fake_backward(
    grad: Tensor,
    grad_weights: Tensor | None,
    fused: Tensor,
    log_sum: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    mask: Tensor | None,
    query_mask: Tensor | None,
    num_heads: int,
    scale: float | None,
    dropout_p: float,
    seed: Tensor | None,
    query_wanted: bool,
    key_wanted: bool,
    value_wanted: bool,
) -> _Three:
    def gradient(side: Tensor, wanted: bool) -> Tensor:
        return side.new_empty((side.shape[0] if wanted else 0, *side.shape[1:]))

    return (
        gradient(query, query_wanted),
        gradient(key, key_wanted),
        gradient(key if value is None else value, value_wanted and value is not None),
    )


def _vmap(operator: Any) -> Any:
    """Samples fold into the batch, but for what one sample decides: a shared query, or dropout."""
    folded, looped = fold_vmap(operator), loop_vmap(operator)

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        first = 0 if operator is _op else 4  # of query, key, ... among the arguments

        def rows(place: int) -> int:
            dim = in_dims[place]
            shape: list[int] = list(args[place].shape)
            if dim is not None:
                del shape[dim]
            return shape[0]

        own = rows(first) == rows(first + 1) and args[first + 8] is None
        results: tuple[Any, Any] = (folded if own else looped)(info, in_dims, *args)
        return results

    return rule


register("attention_fusion", _fake, _Attention, _vmap(_op))
register("attention_fusion_backward", _fake_backward, _AttentionBackward, _vmap(_backward_op))
