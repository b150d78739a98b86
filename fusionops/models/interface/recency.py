"""How much an older item of a history counts: ``floor + (1 - floor) exp(-age / scale)``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Recency:
    """Weights of the items of a history by their age.

    The scale is the question asked: the rest of a basket depends on the last few items, the next
    visit on months. It acts at inference only, so one fitted model answers both.

    Parameters
    ----------
    scale : float
        Age at which the part above the floor has fallen to 37 %.
    floor : float
        Weight of what is infinitely old, in [0, 1]; 1 is no recency.
    unit : {"items", "days"}
        Age in items of the history that came later (its order counts, also within one visit), or
        in days before the last one, or before ``at``.

    Examples
    --------
    >>> Recency(scale=2.0).weights(np.array([0, 2, 200])).round(2).tolist()
    [1.0, 0.43, 0.1]
    """

    scale: float
    floor: float = 0.1
    unit: Literal["items", "days"] = "items"

    def __post_init__(self) -> None:
        for name in ("scale", "floor"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale: expected a finite number above 0, got {self.scale}")
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor: expected a number in [0, 1], got {self.floor}")
        if self.unit not in ("items", "days"):
            raise ValueError(f"unit: expected 'items' or 'days', got {self.unit!r}")

    def weights(self, age: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The weights of ages of at least 0, any shape, ``float32``."""
        decay = np.exp(-age.astype(np.float64) / self.scale)
        return (self.floor + (1.0 - self.floor) * decay).astype(np.float32)


BASKET = Recency(scale=2.0, floor=0.1, unit="items")
"""What completes the basket being filled; uses the order of the lines of an invoice."""

NEXT_VISIT = Recency(scale=80.0, floor=0.1, unit="items")
"""What is bought on later visits."""

NAMED = {"basket": BASKET, "next_visit": NEXT_VISIT}


def resolve(recency: Recency | str | None, *, ordered: bool) -> Recency | None:
    """The Recency meant by an argument; ``"auto"`` is ``NEXT_VISIT`` where histories have an order.

    Raises
    ------
    TypeError, ValueError
        Neither a Recency nor a known name, or one was asked for and the histories have no order.
    """
    if recency is None or (recency == "auto" and not ordered):
        return None
    if isinstance(recency, str):
        if recency != "auto" and recency not in NAMED:
            names = ", ".join(map(repr, ("auto", *NAMED)))
            raise ValueError(f"recency: expected {names}, a Recency or None, got {recency!r}")
        recency = NEXT_VISIT if recency == "auto" else NAMED[recency]
    if not isinstance(recency, Recency):
        raise TypeError(
            f"recency: expected a Recency, a name or None, got {type(recency).__name__}"
        )
    if not ordered:
        raise ValueError("recency: expected histories with times, got interactions without")
    return recency
