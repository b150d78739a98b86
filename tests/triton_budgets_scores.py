"""Budgets of the kernels of scores and losses in Triton, at the sizes of the benchmarks."""

from __future__ import annotations

import functools
import importlib

import torch
from triton_budgets import Budget

from fusionops import triton

HALF, SUMS = torch.bfloat16, torch.float32
_ROWS, _GRADIENTS, _PRODUCT = "_rows_kernel", "_gradients_kernel", "_product_kernel"
_BOTH = (_ROWS, _GRADIENTS)


def _empty(*shape, dtype=SUMS):
    return torch.empty(shape, dtype=dtype)


def _operator(name):
    """The host function of an operator."""
    return getattr(importlib.import_module(f"fusionops.triton.{triton.HOMES[name]}"), name)


def _matrix(users, items, width, dtype):
    sides = _empty(1, users, width, dtype=dtype), _empty(1, items, width, dtype=dtype)
    _operator("fusion_matrix")(*sides, None, _empty(1, items), None)


def _contract(length, left, right, dtype):
    sides = _empty(1, length, left, dtype=dtype), _empty(1, length, right, dtype=dtype)
    _operator("fusion_contract")(*sides, _empty(1, length), SUMS)


def _cross_entropy(users, items, width, dtype, lists=False):
    target = torch.zeros(users, dtype=torch.int64)
    excluded = (torch.arange(users + 1), target) if lists else (None, None)
    sides = _empty(users, width, dtype=dtype), _empty(items, width, dtype=dtype)
    options = 0.1 if lists else 0.0, -100, 0.0
    args = (*sides, target, None, _empty(items), None, *excluded, *options)
    _operator("fusion_cross_entropy")(*args)
    sums = _empty(users), _empty(2, users)
    _operator("fusion_cross_entropy_backward")(*sums, *args, True, True, False)


def _contrastive(batch, width, dtype):
    sides = _empty(batch, width, dtype=dtype), _empty(batch, width, dtype=dtype)
    args = (*sides, _empty(batch), _empty(batch), torch.arange(batch))
    _operator("fusion_contrastive")(*args)
    sums = _empty(batch), _empty(4, batch)
    _operator("fusion_contrastive_backward")(*sums, *args, True, True)


def _of(function, *args, **options):
    return functools.partial(function, *args, **options)


SCORES = [
    Budget(
        "fusion_matrix-bfloat16",
        _of(_matrix, 4096, 100_000, 128, HALF),
        {_PRODUCT: 200},
        tensor_cores=(_PRODUCT,),
    ),
    Budget(
        "fusion_contract-bfloat16",
        _of(_contract, 4096, 1024, 128, HALF),
        {_PRODUCT: 255, "_sum_kernel": 48},
        tensor_cores=(_PRODUCT,),
    ),
    Budget(
        "fusion_matrix-float32",
        _of(_matrix, 4096, 100_000, 128, SUMS),
        {_PRODUCT: 144},
        capabilities=(80, 90),
    ),
    Budget(
        "fusion_cross_entropy-64",
        _of(_cross_entropy, 2048, 50_000, 64, HALF),
        {_ROWS: 176, _GRADIENTS: 248},
        tensor_cores=_BOTH,
        capabilities=(90, 100),
    ),
    Budget(
        "fusion_cross_entropy-128",
        _of(_cross_entropy, 8192, 100_000, 128, HALF),
        {_ROWS: 144, _GRADIENTS: 232},
        tensor_cores=_BOTH,
    ),
    Budget(
        "fusion_cross_entropy-lists",
        _of(_cross_entropy, 8192, 100_000, 128, HALF, lists=True),
        {_ROWS: 192, _GRADIENTS: 255},
        tensor_cores=_BOTH,
        capabilities=(80, 90),
    ),
    Budget(
        "fusion_contrastive-128",
        _of(_contrastive, 8192, 128, HALF),
        {_ROWS: 216, _GRADIENTS: 255},
        tensor_cores=_BOTH,
    ),
]
