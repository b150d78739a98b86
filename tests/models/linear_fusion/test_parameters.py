"""Bad parameters are refused in one sentence."""

import pytest

from fusionops.models import LinearFusion


@pytest.mark.parametrize(
    ("parameters", "error", "sentence"),
    [
        ({"rank": 0}, ValueError, "rank: expected at least 1, got 0"),
        ({"rank": 1.5}, TypeError, "rank: expected an int, got float"),
        ({"neighbours": -1}, ValueError, "neighbours: expected at least 0, got -1"),
        ({"ridge": 0.0}, ValueError, "ridge: expected a finite number above 0, got 0.0"),
        ({"power": -1.0}, ValueError, "power: expected a finite number of at least 0, got -1.0"),
        ({"power": True}, TypeError, "power: expected a number, got bool"),
        ({"cold_factor": float("nan")}, ValueError, "cold_factor: expected a finite number"),
        ({"content": "title"}, TypeError, "content: expected a sequence of column names"),
        ({"ranks": 3}, TypeError, "ranks"),
        ({"numeric": ["price"]}, TypeError, "numeric: expected a mapping by name, got list"),
        (
            {"numeric": {"price": "cubic"}},
            ValueError,
            r"numeric\['price'\]: expected one of 'log', ",
        ),
        (
            {"numeric": {"price": 3}},
            TypeError,
            "expected a form or a pair of form and scale, got 3",
        ),
        ({"numeric": {"price": ("log", 0)}}, ValueError, "a scale above 0 beside 'log', got 0"),
        ({"weights": 1.0}, TypeError, "weights: expected a mapping by name, got float"),
        ({"weights": {"word": -1}}, ValueError, r"weights\['word'\]: expected a finite number of"),
        ({"weights": {"word": "much"}}, ValueError, "of at least 0, got 'much'"),
    ],
)
def test_bad_parameters(parameters, error, sentence):
    with pytest.raises(error, match=sentence):
        LinearFusion(**parameters)
