"""A numeric column as a term of the kernel: closeness by the distance of two values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import skew

Floats = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]

WEIGHTS = {"log": 0.1, "linear": 0.1, "neighbour": 0.2}
"""Of a column by its form, where the parameters do not say otherwise."""

_DEVIATIONS = 0.5  # width of the bell, in standard deviations of the column
_NEIGHBOURS = 10  # reach of "neighbour", in steps to the next value that occurs


@dataclass(frozen=True)
class NumericColumn:
    """One column.

    Attributes
    ----------
    column : str
    weight : float
        Of its closeness in the kernel.
    form : {"log", "linear", "neighbour"}
        ``exp(-(d / scale)^2 / 2)`` with d the difference of the logarithms (prices, sizes: what is
        compared by ratio) or of the values; or ``exp(-|d| / scale)``, for codes that were given out
        one after the other, where only what is close by is related at all.
    scale : float
    """

    column: str
    weight: float
    form: str
    scale: float

    @classmethod
    def fit(
        cls,
        column: str,
        values: Values,
        form: str | None,
        scale: float | None,
        weight: float | None,
    ) -> NumericColumn | None:
        """Choose what is not given; None where the column tells no items apart.

        Raises
        ------
        ValueError
            A value is infinite, or a form was asked for that the column does not allow.
        """
        known = values[~np.isnan(values)]
        _check_finite(column, known)
        chosen = _form(known) if form is None else form
        usable = known[known > 0] if chosen == "log" else known
        if scale is None and len(np.unique(usable)) < 2:
            if form is not None:
                needed = "positive values" if chosen == "log" else "values"
                raise ValueError(
                    f"numeric: expected two different {needed} in column {column!r} for the form "
                    f"{form!r}, or a scale with it"
                )
            return None
        return cls(
            column,
            WEIGHTS[chosen] if weight is None else weight,
            chosen,
            _scale(chosen, usable) if scale is None else scale,
        )

    def transform(self, values: Values) -> Values:
        """What is subtracted, ``float64 [n]``; NaN for what is missing, or has no logarithm."""
        _check_finite(self.column, values)
        if self.form != "log":
            return values
        positive = values > 0
        return np.where(positive, np.log(np.where(positive, values, 1.0)), np.nan)

    def closeness(self, left: Values, right: Values) -> Floats:
        """``float32 [n, m]`` in [0, 1], 0 where a value is missing."""
        distance = ((left[:, None] - right[None, :]) / self.scale).astype(np.float32)
        if self.form == "neighbour":
            exponent = np.abs(distance, out=distance)
        else:
            exponent = np.square(distance, out=distance)
            exponent /= 2
        near: Floats = np.exp(-exponent)
        near[np.isnan(left)] = 0
        near[:, np.isnan(right)] = 0
        return near

    def state(self) -> dict[str, Any]:
        """What JSON holds: the arguments of the constructor."""
        return {
            "column": self.column,
            "weight": self.weight,
            "form": self.form,
            "scale": self.scale,
        }


def _check_finite(column: str, values: Values) -> None:
    infinite = values[np.isinf(values)]
    if len(infinite):
        raise ValueError(
            f"items: expected finite numbers in column {column!r}, got {len(infinite)} times "
            f"{infinite[0]}"
        )


def _form(values: Values) -> str:
    """Codes are whole numbers that mostly occur once; a logarithm is taken where it evens out."""
    if len(values) == 0 or np.ptp(values) == 0:
        return "linear"
    if (values == np.round(values)).all() and 2 * len(np.unique(values)) > len(values):
        return "neighbour"
    if values.min() > 0 and abs(skew(np.log(values))) < abs(skew(values)):
        return "log"
    return "linear"


def _scale(form: str, values: Values) -> float:
    if form == "neighbour":
        return _NEIGHBOURS * float(np.median(np.diff(np.unique(values))))
    return _DEVIATIONS * float(np.std(np.log(values) if form == "log" else values))
