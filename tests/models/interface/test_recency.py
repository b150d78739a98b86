"""The weights of ages, and the names of recencies."""

import numpy as np
import pytest

from fusionops.models.interface.recency import NAMED, Recency, resolve


def test_weights_follow_the_formula():
    age = np.array([0, 1, 10, 10_000])
    weights = Recency(scale=10.0, floor=0.2).weights(age)
    np.testing.assert_allclose(weights, 0.2 + 0.8 * np.exp(-age / 10.0), rtol=1e-6)
    assert weights.dtype == np.float32


def test_auto_needs_an_order():
    assert resolve("auto", ordered=True) == NAMED["next_visit"]
    assert resolve("auto", ordered=False) is None
    assert resolve(None, ordered=True) is None
    with pytest.raises(ValueError, match="recency: expected histories with times"):
        resolve("basket", ordered=False)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"scale": 0.0}, ValueError, "scale: expected a finite number above 0, got 0"),
        ({"scale": float("inf")}, ValueError, "scale: expected a finite number above 0"),
        ({"scale": "fast"}, TypeError, "scale: expected a number, got str"),
        ({"scale": 1.0, "floor": 1.5}, ValueError, r"floor: expected a number in \[0, 1\]"),
        ({"scale": 1.0, "unit": "weeks"}, ValueError, "unit: expected 'items' or 'days'"),
    ],
)
def test_bad_recency(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        Recency(**arguments)


@pytest.mark.parametrize(
    ("value", "error", "sentence"),
    [
        ("yesterday", ValueError, "recency: expected 'auto', 'basket', 'next_visit'"),
        (30, TypeError, "recency: expected a Recency, a name or None, got int"),
    ],
)
def test_bad_choice(value, error, sentence):
    with pytest.raises(error, match=sentence):
        resolve(value, ordered=True)
