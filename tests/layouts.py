"""Tensors of every layout: functions that give a matrix other strides (some repeat its values)."""

from __future__ import annotations

import torch


def transposed(x):
    return x.mT.contiguous().mT


def sliced_rows(x):
    return torch.stack([x, x + 1], -2).flatten(-3, -2)[..., ::2, :]


def sliced_columns(x):
    return torch.stack([x, x + 1], -1).flatten(-2)[..., ::2]


def offset(x):
    padded = torch.nn.functional.pad(x, (3, 2, 1, 1), value=7.0)
    return padded[..., 1:-1, 3:-2]


def expanded_rows(x):
    return x[..., :1, :].expand_as(x)


def expanded_columns(x):
    return x[..., :1].expand_as(x)


def expanded_everywhere(x):
    return x[..., :1, :1].expand_as(x)


LAYOUTS = [
    transposed,
    sliced_rows,
    sliced_columns,
    offset,
    expanded_rows,
    expanded_columns,
    expanded_everywhere,
]
