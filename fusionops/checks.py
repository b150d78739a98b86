"""Checks of scalars that need no torch: numbers, counts and the keywords of a normalisation.

TypeError for the kind, ValueError for the range; each error names the argument, what it got and
what was expected. Callers say which types are numbers to them (torch's symbolic ones are not known
here).
"""

from __future__ import annotations

import math
from typing import Any, cast

NORMALIZATIONS = ("diagonal", "matrix", "cosine", "none")


def number(
    name: str, value: Any, least: float | None = None, kinds: tuple[Any, ...] = (int, float)
) -> None:
    """`value` must be a finite number, and not below `least`."""
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    found: float = value
    # Comparisons instead of math.isfinite, which torch.compile cannot trace; NaN fails them.
    if not -math.inf < found < math.inf or (least is not None and found < least):
        bound = "" if least is None else f" of at least {least:g}"
        raise ValueError(f"{name}: expected a finite number{bound}, got {value}")


def count(name: str, value: Any, least: int = 1, kinds: tuple[type, ...] = (int,)) -> int:
    """`value` must be an integer from `least` to what an int64 holds."""
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
    number = cast(int, value)
    if number < least:
        raise ValueError(f"{name}: expected at least {least}, got {number}")
    if number >= 1 << 63:
        raise ValueError(f"{name}: expected less than 2^63, got {number}")
    return number


def norm(
    normalization: Any,
    power: Any,
    ridge: Any,
    eps: Any,
    kinds: tuple[type, ...] = (int, float),
) -> None:
    """The keywords that everything with a fusion matrix takes."""
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"normalization: expected one of {', '.join(NORMALIZATIONS)}, got {normalization!r}"
        )
    number("power", power, None, kinds)
    number("ridge", ridge, 0.0, kinds)
    number("eps", eps, 0.0, kinds)
