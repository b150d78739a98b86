"""Formulas that can be typeset, and those that are refused."""

import pytest

mathml = pytest.importorskip("mathml", reason="needs pip install '.[docs]'")


def test_display_and_inline():
    assert 'display="block"' in mathml.typeset(r"\frac{a}{b}", display=True)
    assert "<mfrac>" in mathml.typeset(r"\frac{a}{b}", display=True)
    assert 'display="inline"' in mathml.typeset("x_i", display=False)


@pytest.mark.parametrize(
    "latex", [r"\nosuchcommand x", r"\frac{a}", r"\operatorname*{a\,b}", "a & b", r"\left( a"]
)
def test_what_would_come_out_wrong_is_refused(latex):
    with pytest.raises(mathml.FormulaError, match=r"cannot be typeset|does not know|lacks"):
        mathml.typeset(latex, display=True)
