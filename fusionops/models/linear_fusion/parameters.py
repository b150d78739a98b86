"""The parameters of LinearFusion, and what each one trades."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusionops.models.linear_fusion.content.numeric import WEIGHTS

FORMS = tuple(WEIGHTS)


@dataclass(frozen=True)
class Parameters:
    """Keyword arguments of :class:`fusionops.models.LinearFusion`.

    The defaults were chosen on validation parts of Online Retail, and the optimum is flat: between
    half and twice each value the figures move by a few per cent.

    Parameters
    ----------
    rank : int
        Width of the item and user vectors. Memory and time of a search are proportional to it; on
        a catalogue of 3,000 items 512 loses 1 % of NDCG, 1,024 at most a tenth of a point.
    ridge : float
        Penalty of the closed form, in units of the mean diagonal of the Gram matrix. Smaller
        follows rare co-occurrences (more of the catalogue is recommended, more noise), larger
        tends to popularity.
    power : float
        Exponent of the fusion matrix ``S_UP (S_PP + ridge I)^-power``: 1 is the ridge solution, 0.5
        the whitened profile, 0 the plain product, which is popularity-heavy.
    user_exponent : float
        A user with n items counts ``n^(-2 user_exponent)`` in the Gram matrix: 0 lets heavy buyers
        decide, 0.5 gives every user the same say.
    item_exponent : float
        Items are scaled by ``n^-item_exponent``, n the number of users: larger moves lists from
        popular to rare items.
    content_weight : float
        Share of the content kernel in the Gram matrix of items with history, in units of its mean
        diagonal: larger helps items with few users, too much blurs the others.
    neighbours : int
        How many content neighbours a cold item borrows from, beside the regression on all items.
    neighbour_weight : float
        Weight of those neighbours against the regression's 1. Neighbours are sharper, the
        regression is better where nothing similar exists.
    cold_factor : float
        Factor on the vectors of items without history. It changes nothing among themselves, only
        how often they come up in one list with the others.
    content : sequence of str, optional
        The text, categorical and numeric columns that say what an item is like; by default all of
        them.
    numeric : mapping of str to str or (str, float), optional
        How near two values of a numeric column are, by a form and a scale d. ``"log"``: a bell of
        width d over the difference of the logarithms, for prices and sizes; values that are not
        positive count as missing. ``"linear"``: the same over the difference. ``"neighbour"``:
        ``exp(-|difference| / d)``, for codes given out one after the other. By default half a
        standard deviation, and 10 times the usual step between values. A column that is not named
        is taken as a code where it holds whole numbers that mostly occur once, as ``"log"`` where
        its logarithm is less skewed, and as ``"linear"`` otherwise.
    weights : mapping of str to float, optional
        Of the terms of the content kernel: ``"char"`` (1) and ``"word"`` (0.5), the two readings of
        the text; ``"category"`` (0.5); each modality of ``features`` by its name (0.3); each
        numeric column by its name (0.1, as ``"neighbour"`` 0.2). 0 leaves a term out.
    dense_items : int
        Largest number of items with history for which fitting holds matrices of items by items,
        and is exact. Above, the Gram matrix is only applied, never formed, and the content
        kernel is expressed by 1,024 landmark items, which moves NDCG by less than .003. On two
        cores, at rank 1,024: 12,000 items take 22 s and 2.3 GB exactly, 8 s and 0.9 GB so;
        50,000 items take 40 s and 2.1 GB.

    Raises
    ------
    TypeError, ValueError
        A value of the wrong kind or range.
    """

    rank: int = 1024
    ridge: float = 20.0
    power: float = 1.0
    user_exponent: float = 0.3
    item_exponent: float = 0.25
    content_weight: float = 0.1
    neighbours: int = 10
    neighbour_weight: float = 0.5
    cold_factor: float = 1.5
    content: Sequence[str] | None = None
    numeric: Mapping[str, Any] | None = None
    weights: Mapping[str, float] | None = None
    dense_items: int = 10_000

    def __post_init__(self) -> None:
        for name, least in (("rank", 1), ("neighbours", 0), ("dense_items", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
            if value < least:
                raise ValueError(f"{name}: expected at least {least}, got {value}")
        for name in (
            "power",
            "user_exponent",
            "item_exponent",
            "content_weight",
            "neighbour_weight",
            "cold_factor",
            "ridge",
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
            if not math.isfinite(value) or value < 0 or (name == "ridge" and value == 0):
                bound = "above 0" if name == "ridge" else "of at least 0"
                raise ValueError(f"{name}: expected a finite number {bound}, got {value}")
        if self.content is not None:
            if isinstance(self.content, str):
                raise TypeError(
                    f"content: expected a sequence of column names, got the string {self.content!r}"
                )
            object.__setattr__(self, "content", tuple(self.content))
        for name, checked in (("numeric", _form), ("weights", _weight)):
            given = getattr(self, name)
            if given is None:
                continue
            if not isinstance(given, Mapping):
                raise TypeError(f"{name}: expected a mapping by name, got {type(given).__name__}")
            object.__setattr__(self, name, {key: checked(key, given[key]) for key in given})


def _form(column: str, value: Any) -> tuple[str, float | None]:
    """The form of a numeric column, and its scale where one is given."""
    form, scale = (value, None) if isinstance(value, str) else _pair(column, value)
    if form not in FORMS:
        raise ValueError(
            f"numeric[{column!r}]: expected one of {', '.join(map(repr, FORMS))}, got {form!r}"
        )
    if scale is not None and not (_is_number(scale) and math.isfinite(scale) and scale > 0):
        raise ValueError(
            f"numeric[{column!r}]: expected a scale above 0 beside {form!r}, got {scale!r}"
        )
    return form, scale


def _pair(column: str, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(
            f"numeric[{column!r}]: expected a form or a pair of form and scale, got {value!r}"
        )
    return value[0], value[1]


def _weight(term: str, value: Any) -> float:
    if not (_is_number(value) and math.isfinite(value) and value >= 0):
        raise ValueError(
            f"weights[{term!r}]: expected a finite number of at least 0, got {value!r}"
        )
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
