"""Numeric columns: forms, scales chosen from the values, what is missing."""

import numpy as np
import pytest

from fusionops.models.linear_fusion.content.numeric import NumericColumn

RNG = np.random.default_rng(0)
PRICES = RNG.lognormal(1.0, 0.8, 500).round(2)
HEIGHTS = RNG.normal(20.0, 4.0, 500)
CODES = np.sort(RNG.choice(30_000, 500, replace=False)).astype(np.float64)
STARS = RNG.integers(1, 6, 500).astype(np.float64)


@pytest.mark.parametrize(
    ("values", "form", "scale"),
    [
        (PRICES, "log", np.log(PRICES).std() / 2),
        (HEIGHTS, "linear", HEIGHTS.std() / 2),
        (-PRICES, "linear", PRICES.std() / 2),
        (CODES, "neighbour", 10 * np.median(np.diff(CODES))),
        (np.append(PRICES, np.nan), "log", np.log(PRICES).std() / 2),
    ],
)
def test_the_values_choose_the_form(values, form, scale):
    column = NumericColumn.fit("x", values, None, None, None)
    assert column.form == form
    assert column.scale == pytest.approx(scale)


def test_whole_numbers_that_repeat_are_no_codes():
    assert NumericColumn.fit("stars", STARS, None, None, None).form in ("linear", "log")


@pytest.mark.parametrize("values", [np.full(5, 3.5), np.full(5, 3.0), np.full(5, np.nan)])
def test_a_column_that_tells_nothing_apart_is_left_out(values):
    assert NumericColumn.fit("x", values, None, None, None) is None
    with pytest.raises(ValueError, match="numeric: expected two different values in column 'x'"):
        NumericColumn.fit("x", values, "linear", None, None)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("log", lambda a, b: np.exp(-((np.log(a / b) / 2) ** 2) / 2)),
        ("linear", lambda a, b: np.exp(-(((a - b) / 2) ** 2) / 2)),
        ("neighbour", lambda a, b: np.exp(-np.abs(a - b) / 2)),
    ],
)
def test_closeness_by_form(form, expected):
    column = NumericColumn.fit("x", HEIGHTS, form, 2.0, None)
    left, right = HEIGHTS[:30], np.abs(HEIGHTS[100:140])
    found = column.closeness(column.transform(left), column.transform(right))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(left[:, None], right[None, :]), rtol=1e-5)


def test_large_codes_keep_their_last_digits():
    codes = 5_000_000_000_000 + np.arange(6.0)
    column = NumericColumn.fit("ean", codes, "neighbour", 2.0, None)
    values = column.transform(codes)
    expected = np.exp(-np.abs(np.arange(6)[:, None] - np.arange(6)[None, :]) / 2)
    np.testing.assert_allclose(column.closeness(values, values), expected, rtol=1e-5)


def test_what_is_missing_or_has_no_logarithm_is_near_nothing():
    column = NumericColumn.fit("price", PRICES, "log", None, None)
    values = column.transform(np.array([2.0, np.nan, 0.0, -1.0]))
    np.testing.assert_array_equal(np.isnan(values), [False, True, True, True])
    np.testing.assert_array_equal(column.closeness(values, values), np.diag([1.0, 0, 0, 0]))


def test_a_logarithm_needs_positive_values():
    with pytest.raises(ValueError, match="expected two different positive values in column 'x'"):
        NumericColumn.fit("x", -PRICES, "log", None, None)


def test_infinity_is_refused():
    values = np.array([1.0, 2.0, np.inf])
    with pytest.raises(ValueError, match="finite numbers in column 'x', got 1 times inf"):
        NumericColumn.fit("x", values, None, None, None)
    column = NumericColumn.fit("x", values[:2], "linear", 1.0, None)
    with pytest.raises(ValueError, match="finite numbers in column 'x', got 1 times inf"):
        column.transform(values)
