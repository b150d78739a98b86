"""weighted_fusion in Triton: a softmax over the tokens of an entity, and their weighted sum.

A program has a tile of entities by features and goes along the tokens. All that limits it is
memory: values are read once, and in the backward pass their gradient is written once. Softmaxes
are made anew by each program, from a few logits an entity that stay in the cache.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fusionops.triton._launch import launch
from fusionops.triton._softmax import finite_peak, online, reciprocal

# Elements of a token that a program of four warps holds at once: 16-byte loads of bfloat16 two a
# thread, and a loop over tokens unrolled _UNROLLED times has as many of them in flight.
_TILE = 2048
_UNROLLED = 4
_WIDEST = 1024  # features of a tile; wider rows are taken in pieces
_MOST_TOKENS = 64  # logits of an entity looked at together


@triton.jit
def _logits_at(logits, mask, entity, token, inside, logits_b, logits_m, mask_b, mask_m):
    """The logits at `entity` and `token`, -inf where they are missing, and what is there."""
    there = inside
    if mask is not None:
        there = there & (tl.load(mask + entity * mask_b + token * mask_m, mask=there, other=0) != 0)
    at = logits + entity * logits_b + token * logits_m
    return tl.load(at, mask=there, other=-float("inf")), there


@triton.jit
def _softmax_of(
    logits, mask, entity, entities, tokens, logits_b, logits_m, mask_b, mask_m,
    ROWS: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """What the logits of each entity have subtracted, and what their exponentials are times."""
    peak = tl.full([ROWS], -float("inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    rows = entity[:, None]
    for first in range(0, tokens, TOKENS):
        token = first + tl.arange(0, TOKENS).to(tl.int64)[None, :]
        inside = (rows < entities) & (token < tokens)
        found, _ = _logits_at(logits, mask, rows, token, inside, logits_b, logits_m, mask_b, mask_m)
        peak, total, _, _ = online(peak, total, found, 1)
    return finite_peak(peak), reciprocal(total)


@triton.jit
def _forward(
    out, values, logits, mask, entities, tokens, width,
    values_b, values_m, values_d, logits_b, logits_m, mask_b, mask_m,
    ROWS: tl.constexpr, TOKENS: tl.constexpr, WIDTH: tl.constexpr, UNROLLED: tl.constexpr,
):  # fmt: skip
    pieces = tl.cdiv(width, WIDTH)
    program = tl.program_id(0)
    entity = (program // pieces).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = (program % pieces) * WIDTH + tl.arange(0, WIDTH).to(tl.int64)
    shift, scale = _softmax_of(
        logits, mask, entity, entities, tokens, logits_b, logits_m, mask_b, mask_m, ROWS, TOKENS
    )
    start = values + entity[:, None] * values_b + column[None, :] * values_d
    total = tl.zeros([ROWS, WIDTH], tl.float32)
    for first in range(0, tokens, UNROLLED):
        for step in tl.static_range(UNROLLED):
            token = tl.cast(first + step, tl.int64)
            inside = entity < tl.where(token < tokens, entities, 0)
            found, there = _logits_at(
                logits, mask, entity, token, inside, logits_b, logits_m, mask_b, mask_m
            )
            wanted = there[:, None] & (column < width)[None, :]
            value = tl.load(start + token * values_m, mask=wanted, other=0).to(tl.float32)
            total += (tl.exp(found - shift) * scale)[:, None] * value
    inside = (entity < entities)[:, None] & (column < width)[None, :]
    place = entity[:, None] * width + column[None, :]
    tl.store(out + place, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _products(
    grad, values, grad_values, entity, token, weight, inside, there, width, tokens,
    grad_b, grad_d, values_b, values_m, values_d,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The products of a token of each entity with its gradient, if its values are given.

    On the way, if `grad_values` is given, the gradient of that token of the values is written.
    """
    sums = tl.zeros([ROWS], tl.float32)
    for first in range(0, width, WIDTH):
        column = (first + tl.arange(0, WIDTH)).to(tl.int64)[None, :]
        within = column < width
        slope = tl.load(
            grad + entity[:, None] * grad_b + column * grad_d,
            mask=there[:, None] & within,
            other=0,
        ).to(tl.float32)
        if values is not None:
            at = values + entity[:, None] * values_b + token * values_m + column * values_d
            value = tl.load(at, mask=there[:, None] & within, other=0).to(tl.float32)
            sums += tl.sum(slope * value, 1)
        if grad_values is not None:
            at = grad_values + (entity[:, None] * tokens + token) * width + column
            moved = (weight[:, None] * slope).to(grad_values.dtype.element_ty)
            tl.store(at, moved, mask=inside[:, None] & within)
    return sums


@triton.jit
def _backward(
    grad_values, grad_logits, grad, values, logits, mask, entities, tokens, width,
    grad_b, grad_d, values_b, values_m, values_d, logits_b, logits_m, mask_b, mask_m,
    SHARED: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr, WIDTH: tl.constexpr,
    UNROLLED: tl.constexpr, PASSES: tl.constexpr,
):  # fmt: skip
    """Both gradients of a block of entities.

    A logit's gradient is weight * (product - mean), where the product is its token's with the
    gradient and the mean is weighted by the weights. In one pass the products of all tokens stay
    in registers; in two, for many tokens, the second makes them again.
    """
    entity = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    shift, scale = _softmax_of(
        logits, mask, entity, entities, tokens, logits_b, logits_m, mask_b, mask_m, ROWS, TOKENS
    )
    mean = tl.zeros([ROWS], tl.float32)
    lane = tl.arange(0, TOKENS)
    for turn in tl.static_range(PASSES):
        for first in range(0, tokens, TOKENS):
            products = tl.zeros([ROWS, TOKENS], tl.float32)
            weights = tl.zeros([ROWS, TOKENS], tl.float32)
            for start in range(0, min(TOKENS, tokens - first), UNROLLED):
                for step in tl.static_range(UNROLLED):
                    token = tl.cast(first + start + step, tl.int64)
                    inside = entity < tl.where(token < tokens, entities, 0)
                    found, there = _logits_at(
                        logits, mask, entity, token, inside, logits_b, logits_m, mask_b, mask_m
                    )
                    weight = tl.exp(found - shift) * scale
                    product = _products(
                        grad, values, grad_values if turn == 0 else None, entity, token, weight,
                        inside, there, width, tokens, grad_b, grad_d, values_b, values_m, values_d,
                        ROWS, WIDTH,
                    )  # fmt: skip
                    if turn == 0:
                        mean += weight * product
                    own = (lane == start + step)[None, :]
                    products = tl.where(own, product[:, None], products)
                    weights = tl.where(own, weight[:, None], weights)
            if grad_logits is not None and turn == PASSES - 1:
                token = (first + lane).to(tl.int64)[None, :]
                within = token < tokens
                slope = weights * (products - mean[:, None])
                if SHARED:  # the sum over this block; the blocks are added afterwards
                    at = grad_logits + tl.program_id(0).to(tl.int64) * tokens + first + lane
                    tl.store(at, tl.sum(slope, 0), mask=first + lane < tokens)
                else:
                    at = grad_logits + entity[:, None] * tokens + token
                    tl.store(at, slope, mask=(entity < entities)[:, None] & within)


def _tile(entities: int, width: int) -> dict[str, int]:
    """Entities and features of a program's tile: few of the first where there are few at all."""
    columns = min(triton.next_power_of_2(max(width, 1)), _WIDEST)
    rows = min(max(_TILE // columns, 1), 64, triton.next_power_of_2(max(entities // 512, 1)))
    return {"ROWS": rows, "WIDTH": columns, "num_warps": min(max(rows * columns // 512, 1), 4)}


def _logits_strides(logits: Tensor) -> tuple[int, int]:
    return (0 if logits.dim() == 1 else logits.stride(0)), logits.stride(-1)


def _mask_strides(mask: Tensor | None) -> tuple[int, int]:
    return (0, 0) if mask is None else (mask.stride(0), mask.stride(1))


def _tokens_of_tile(tokens: int) -> dict[str, int]:
    together = min(triton.next_power_of_2(max(tokens, 1)), _MOST_TOKENS)
    return {"TOKENS": together, "UNROLLED": min(together, _UNROLLED)}


def weighted_fusion(values: Tensor, logits: Tensor, mask: Tensor | None) -> Tensor:
    """``fusionops::weighted_fusion``; see ``csrc/torch/schemas.h``."""
    entities, tokens, width = values.shape
    out = values.new_empty((entities, width))
    if out.numel() == 0:
        return out
    tile = _tile(entities, width)
    grid = (triton.cdiv(entities, tile["ROWS"]) * triton.cdiv(width, tile["WIDTH"]),)
    launch(
        _forward, grid, out, values, logits, mask, entities, tokens, width,
        *values.stride(), *_logits_strides(logits), *_mask_strides(mask),
        **_tokens_of_tile(tokens), **tile,
    )  # fmt: skip
    return out


def weighted_fusion_backward(
    grad: Tensor,
    values: Tensor,
    logits: Tensor,
    mask: Tensor | None,
    values_wanted: bool,
    logits_wanted: bool,
) -> tuple[Tensor, Tensor]:
    """``fusionops::weighted_fusion_backward``; see ``csrc/torch/schemas.h``."""
    entities, tokens, width = values.shape
    tile, shared = _tile(entities, width), logits.dim() == 1
    blocks = triton.cdiv(entities, tile["ROWS"])
    grad_values = values.new_empty((entities if values_wanted else 0, tokens, width))
    parts = logits.new_empty((blocks if shared else entities, tokens)) if logits_wanted else None
    if entities and tokens and (values_wanted or logits_wanted):
        launch(
            _backward, (blocks,), grad_values if values_wanted else None, parts,
            grad, values if logits_wanted else None, logits, mask, entities, tokens, width,
            *grad.stride(), *values.stride(), *_logits_strides(logits), *_mask_strides(mask),
            SHARED=shared, **_tokens_of_tile(tokens),
            PASSES=2 if logits_wanted and tokens > _MOST_TOKENS else 1, **tile,
        )  # fmt: skip
    if parts is None:
        return grad_values, logits.new_empty((0, *logits.shape[1:]))
    return grad_values, parts.sum(0) if shared else parts
