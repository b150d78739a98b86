"""Checks of arguments: TypeError for kind and dtype, ValueError for shape and range.

Each error names the argument, what it got and what was expected.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from fusionops import checks
from fusionops.ops._dtypes import FLOATING, accumulator, autocast


def describe(tensor: Tensor) -> str:
    """Dtype and shape, as they stand in error messages."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def floating(name: str, value: Any) -> None:
    """`value` must be a floating tensor of a dtype that the kernels take."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    if value.layout != torch.strided or value.is_nested:
        raise TypeError(
            f"{name}: expected a dense (strided) tensor, got "
            f"{'nested' if value.is_nested else f'layout {value.layout}'}"
        )
    if value.dtype not in FLOATING:
        raise TypeError(
            f"{name}: expected float64, float32, bfloat16 or float16, got {describe(value)}"
        )


def sides(*, batched: bool, **named: Any) -> tuple[Tensor, ...]:
    """Checks tensors whose last two dimensions are rows and features, and applies autocast.

    All must share dtype (after autocast) and device with the first.
    """
    for name, value in named.items():
        floating(name, value)
        if value.dim() < 2 or (value.dim() > 2 and not batched):
            wanted = "at least 2 dimensions" if batched else "2 dimensions"
            raise ValueError(f"{name}: expected {wanted}, got {describe(value)}")
    return _alike(named)


def tokens(**named: Any) -> tuple[Tensor, ...]:
    """Checks tensors ``[B, N, D]``, and applies autocast.

    All must share dtype (after autocast) and device with the first.
    """
    for name, value in named.items():
        floating(name, value)
        if value.dim() != 3:
            raise ValueError(f"{name}: expected 3 dimensions, got {describe(value)}")
    return _alike(named)


def same_batch(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """The first dimension of `value` must be that of `other`."""
    if value.shape[0] != other.shape[0]:
        raise ValueError(
            f"{name}: expected a batch of {other.shape[0]} as {other_name} has, "
            f"got {describe(value)}"
        )


def presence(name: str, value: Any, other_name: str, other: Tensor) -> Tensor | None:
    """A bool mask ``[B, M]`` or ``[M]`` of the tokens of `other` ``[B, M, D]``, as ``[B, M]``."""
    if value is None:
        return None
    batch, rows = other.shape[:2]
    return mask(name, value, batch, rows, other_name, other).expand(batch, rows)


def mask(name: str, value: Any, batch: int, rows: int, other_name: str, other: Tensor) -> Tensor:
    """A bool tensor ``[rows]`` or ``[batch, rows]`` on the device of `other`, as it is."""
    if not isinstance(value, Tensor) or value.dtype != torch.bool:
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name}: expected a bool tensor, got {got}")
    if value.layout != torch.strided or value.is_nested:
        raise TypeError(f"{name}: expected a dense (strided) bool tensor, got {value.layout}")
    same_device(name, value, other_name, other)
    if not is_row_or_rows(value, batch, rows):
        raise ValueError(
            f"{name}: expected shape [{rows}] or [{batch}, {rows}], got {list(value.shape)}"
        )
    found: Tensor = value
    return found


def is_row_or_rows(value: Tensor, batch: int, rows: int) -> bool:
    """Whether `value` is ``[rows]`` or ``[batch, rows]``.

    Dimensions first: Dynamo compares tuples of unlike lengths by their first entries, which would
    be a guard that `batch` is not `rows`.
    """
    wanted = (batch, rows) if value.dim() == 2 else (rows,)
    return value.dim() in (1, 2) and tuple(value.shape) == wanted


def _alike(named: dict[str, Any]) -> tuple[Tensor, ...]:
    """The tensors under autocast, which must share dtype and device with the first."""
    tensors = autocast(*named.values())
    first_name, first = next(iter(named)), tensors[0]
    for name, value in zip(named, tensors, strict=True):
        if value.dtype != first.dtype:
            raise TypeError(
                f"{name}: expected the dtype of {first_name} ({first.dtype}), got {value.dtype}"
            )
        same_device(name, value, first_name, first)
    return tensors


def same_device(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Two tensors must be on one device."""
    if value.device != other.device:
        raise ValueError(
            f"{name}: expected the device of {other_name} ({other.device}), got {value.device}"
        )


def same_width(user: Tensor, item: Tensor) -> None:
    """`user` and `item` must have the same number of features."""
    if user.shape[-1] != item.shape[-1]:
        raise ValueError(
            f"item: expected rows of width {user.shape[-1]} as user has, got {describe(item)}"
        )


def batch_shape(**named: Tensor) -> torch.Size:
    """The common leading shape of batched tensors, which broadcast as for ``torch.matmul``."""
    if all(t.dim() == 2 for t in named.values()):
        return torch.Size()
    try:
        return torch.Size(torch.broadcast_shapes(*(t.shape[:-2] for t in named.values())))
    except RuntimeError:
        shapes = ", ".join(f"{name} {list(t.shape)}" for name, t in named.items())
        raise ValueError(
            f"{' and '.join(named)}: expected batch dimensions that broadcast, got {shapes}"
        ) from None


def fold(tensor: Tensor, batch: torch.Size) -> Tensor:
    """``[*, N, D]`` as ``[B, N, D]``: a view wherever the strides allow one."""
    return tensor.expand(*batch, *tensor.shape[-2:]).reshape(math.prod(batch), *tensor.shape[-2:])


def count(name: str, value: Any, least: int = 1) -> int:
    """`value` must be an integer from `least` to what an int64 holds."""
    if isinstance(value, np.integer):
        value = int(value)
    return checks.count(name, value, least, (int, torch.SymInt))


def list_length(name: str, k: int, users: int) -> None:
    """The indices must be fewer than 2^47 bytes, which is what a process can address."""
    # Not in a compiled call, which would guard on the number of users for it.
    if not torch.compiler.is_compiling() and max(users, 1) * k >= 1 << 44:
        raise ValueError(
            f"{name}: expected lists that memory can hold, got {users} lists of {k} entries"
        )


def number(name: str, value: Any, least: float | None = None) -> float:
    """`value` must be a finite number, and not below `least`."""
    value = _plain(value)
    checks.number(name, value, least, (int, float, torch.SymInt, torch.SymFloat))
    return cast(float, value)


def _plain(value: Any) -> Any:
    """A NumPy number as Python's: operators take no other."""
    return float(value) if isinstance(value, (np.floating, np.integer)) else value


def item_bias(value: Any, item: Tensor) -> Tensor:
    """A bias ``[P]`` of any floating dtype, in the accumulation dtype of `item`."""
    floating("item_bias", value)
    same_device("item_bias", value, "item", item)
    if value.shape != item.shape[:1]:
        raise ValueError(f"item_bias: expected shape [{item.shape[0]}], got {describe(value)}")
    bias: Tensor = value.to(accumulator(item.dtype))
    return bias


def integers(name: str, value: Any, rows: int, other: Tensor, other_name: str = "user") -> Tensor:
    """A 1-d integer tensor of `rows` entries on the device of `other`, as int64."""
    integer(name, value)
    same_device(name, value, other_name, other)
    if value.dim() != 1 or value.shape[0] != rows:
        raise ValueError(f"{name}: expected shape [{rows}], got {describe(value)}")
    found: Tensor = value.to(torch.int64)
    return found


def integer(name: str, value: Any) -> None:
    """`value` must be a dense tensor of an integer dtype."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected an integer tensor, got {type(value).__name__}")
    if value.layout != torch.strided or value.is_nested:
        raise TypeError(f"{name}: expected a dense (strided) integer tensor, got {value.layout}")
    if value.dtype.is_floating_point or value.dtype.is_complex or value.dtype == torch.bool:
        raise TypeError(f"{name}: expected an integer tensor, got {describe(value)}")


def scale(value: Any, other: Tensor) -> float | Tensor:
    """A finite number, or a 0-d floating tensor in the accumulation dtype of `other`."""
    if not isinstance(value, Tensor):
        return number("scale", value)
    floating("scale", value)
    same_device("scale", value, "user", other)
    if value.dim() != 0:
        raise ValueError(f"scale: expected a number or a 0-d tensor, got {describe(value)}")
    return value.to(accumulator(other.dtype))


def norm(normalization: Any, power: Any, ridge: Any, eps: Any) -> tuple[str, float, float, float]:
    """The keywords that every operator with a fusion matrix takes."""
    power, ridge, eps = _plain(power), _plain(ridge), _plain(eps)
    checks.norm(normalization, power, ridge, eps, (int, float, torch.SymInt, torch.SymFloat))
    return normalization, power, ridge, eps
