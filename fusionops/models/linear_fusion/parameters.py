"""The parameters of LinearFusion, and what each one trades."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


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
        The text and categorical columns that say what an item is like; by default all of them.
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
