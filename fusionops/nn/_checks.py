"""Checks of constructor arguments, and of tokens that meet a parameter before an operator.

The errors are those of the operators: they name the argument, what it got and what was expected.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fusionops.ops import _checks

count = _checks.count
norm = _checks.norm
number = _checks.number


def flag(name: str, value: Any) -> bool:
    """`value` must be a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected a bool, got {type(value).__name__}")
    return value


def choice(name: str, value: Any, among: tuple[str, ...]) -> str:
    """`value` must be one of the strings `among`."""
    if value not in among:
        raise ValueError(f"{name}: expected one of {', '.join(among)}, got {value!r}")
    return str(value)


def probability(name: str, value: Any) -> float:
    """`value` must be a number in ``[0, 1]``."""
    found = number(name, value, 0.0)
    if found > 1:
        raise ValueError(f"{name}: expected a number in [0, 1], got {found}")
    return found


def heads(num_heads: Any, dim: int) -> int:
    """`num_heads` must be a count that divides `dim`."""
    found = count("num_heads", num_heads)
    if dim % found:
        raise ValueError(f"num_heads: expected a divisor of dim ({dim}), got {found}")
    return found


def tokens(name: str, value: Any, dim: int) -> Tensor:
    """`value` must be a floating tensor ``[B, M, dim]``."""
    _checks.floating(name, value)
    if value.dim() != 3 or value.shape[2] != dim:
        raise ValueError(f"{name}: expected shape [B, M, {dim}], got {_checks.describe(value)}")
    found: Tensor = value
    return found


def present(name: str, mask: Any, other_name: str, other: Tensor) -> Tensor | None:
    """A presence mask of the tokens `other` as ``[B, M]``."""
    return _checks.presence(name, mask, other_name, other)


def blank(value: Tensor, mask: Tensor | None) -> Tensor:
    """Tokens with zeros where they are missing.

    What stands there may be NaN, which a linear layer would carry into the gradient of its weight.
    """
    return value if mask is None else value.masked_fill(~mask.unsqueeze(-1), 0)
