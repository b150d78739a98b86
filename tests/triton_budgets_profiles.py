"""Budgets of the kernels that fuse profiles in Triton, at the sizes of the benchmarks."""

from __future__ import annotations

import functools
import importlib

import torch
from triton_budgets import Budget

HALF, SUMS = torch.bfloat16, torch.float32
_FORWARD, _BACKWARD = "_forward", "_backward"
_BOTH = (_FORWARD, _BACKWARD)


def _empty(*shape, dtype=SUMS):
    return torch.empty(shape, dtype=dtype)


def _home(operator):
    return importlib.import_module(f"fusionops.triton.{operator}")


def _attention(batch, queries, tokens, width, heads, dtype, dropout=False):
    query, key, value = (
        _empty(batch, count, width, dtype=dtype) for count in (queries, tokens, tokens)
    )
    mask = torch.ones(batch, tokens, dtype=torch.bool) if dropout else None
    options = (0.1, torch.tensor(1)) if dropout else (0.0, None)
    args = (query, key, value, mask, None, heads, None, *options)
    fused, _, log_sum = _home("attention_fusion").attention_fusion(*args, False)
    _home("attention_fusion").attention_fusion_backward(
        fused, None, fused, log_sum, *args, True, True, True
    )


def _bidirectional(batch, users, items, width, dtype):
    args = (
        _empty(batch, users, width, dtype=dtype),
        _empty(batch, items, width, dtype=dtype),
        *[None] * 5,
    )
    results = _home("bidirectional_fusion").bidirectional_fusion(*args)
    _home("bidirectional_fusion").bidirectional_fusion_backward(
        *results[:2], *results, *args, *[True] * 4
    )


def _weighted(batch, tokens, width, dtype):
    values, logits = _empty(batch, tokens, width, dtype=dtype), _empty(batch, tokens)
    _home("weighted_fusion").weighted_fusion(values, logits, None)
    grad = _empty(batch, width, dtype=dtype)
    _home("weighted_fusion").weighted_fusion_backward(grad, values, logits, None, True, True)


def _history(histories, length, width, table, dtype):
    offsets = torch.arange(histories + 1) * length
    ids = torch.zeros(histories * length, dtype=torch.int64)
    args = (
        _empty(table, width, dtype=dtype), offsets, _empty(histories, width, dtype=dtype), None, ids
    )  # fmt: skip
    fused, statistics = _home("history_fusion").history_fusion(*args)
    _home("history_fusion").history_fusion_backward(fused, statistics, *args, True, True, False)


def _of(function, *args, **options):
    return functools.partial(function, *args, **options)


# A pair of few tokens has its operands and sums in registers; only the tile's turn is shared.
PROFILES = [
    Budget(
        "attention_fusion-4x4x128",
        _of(_attention, 8192, 4, 4, 128, 4, HALF, dropout=True),
        {_FORWARD: 168, _BACKWARD: 212},
        tensor_cores=_BOTH,
        small_tiles=True,
    ),
    Budget(
        "attention_fusion-512x512x128",
        _of(_attention, 64, 512, 512, 128, 1, HALF),
        {_FORWARD: 168, _BACKWARD: 255, "_weights": 128},
        tensor_cores=_BOTH,
    ),
    Budget(
        "attention_fusion-float32",
        _of(_attention, 64, 256, 256, 64, 1, SUMS),
        {_FORWARD: 208, _BACKWARD: 255},
        capabilities=(90,),
    ),
    Budget(
        "bidirectional_fusion-32x32x128",
        _of(_bidirectional, 2048, 32, 32, 128, HALF),
        {_FORWARD: 216, _BACKWARD: 248},
        tensor_cores=_BOTH,
        capabilities=(80, 90),
        small_tiles=True,
    ),
    Budget(
        "bidirectional_fusion-256x256x128",
        _of(_bidirectional, 64, 256, 256, 128, HALF),
        {_BACKWARD: 255},
        tensor_cores=(_BACKWARD,),
        capabilities=(90, 120),
    ),
    Budget(
        "weighted_fusion-4x128",
        _of(_weighted, 65536, 4, 128, HALF),
        {_FORWARD: 80, _BACKWARD: 96},
    ),
    Budget(
        "history_fusion-50x128",
        _of(_history, 8192, 50, 128, 100_000, HALF),
        {_FORWARD: 64, _BACKWARD: 96, "_chunks": 80, "_runs": 168},
    ),
    Budget(
        "history_fusion-5000x128",
        _of(_history, 16, 5000, 128, 100_000, HALF),
        {_FORWARD: 64, "_join": 64, "_part_means": 64, _BACKWARD: 96},
        capabilities=(90,),
    ),
]
