"""Docstrings of a small package as the site would render them."""

import logging

import pytest

griffe = pytest.importorskip("griffe", reason="needs pip install '.[docs]'")
docstrings = pytest.importorskip("docstrings", reason="needs pip install '.[docs]'")

TEXT = r"""What it computes.

Parameters
----------
x : int
    As for :func:`other`.

Notes
-----
.. math::
    y = x^2

    z = \frac{1}
    {x}

with :math:`x` an argument.

Examples
--------
>>> 1
1
"""


def test_notes_come_before_the_parameters():
    found = docstrings.to_markdown(TEXT, "<{}>".format)
    assert "Notes" not in found
    parts = ["What it computes.", "<msup>", "<mfrac>", "an argument.", "Parameters\n---", ">>> 1"]
    assert [found.index(part) for part in parts] == sorted(found.index(part) for part in parts)
    assert found.count('<div class="formula">') == 2
    assert 'with <math xmlns="http://www.w3.org/1998/Math/MathML" display="inline">' in found
    assert "As for <other>." in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One line.", "One line."),
        ("A.\n\nNotes\n-----\nB.", "A.\n\nB."),
        ("A.\n\nNotes\n-----\nB.\n\nReturns\n-------\nint", "A.\n\nB.\n\nReturns\n-------\nint"),
    ],
)
def test_sections(text, expected):
    assert docstrings.to_markdown(text, str) == expected


def load(code: str):
    """A package ``pkg`` of one module."""
    files = {"__init__.py": code}
    return griffe.temporary_visited_package(
        "pkg",
        files,
        init=False,
        docstring_parser="numpy",
        extensions=griffe.load_extensions(docstrings.Docstrings),
    )


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_roles_are_links(caplog):
    code = '''"""Module."""
import torch
class A:
    """See :meth:`go` and :func:`torch.matmul` and :class:`~pkg.A`."""
    def go(self):
        """Of :class:`A`."""
'''
    with load(code) as package:
        text = package["A"].docstring.value
        assert '<autoref identifier="pkg.A.go" optional><code>go</code></autoref>' in text
        assert "and `torch.matmul` and" in text
        assert '<autoref identifier="pkg.A" optional><code>A</code></autoref>' in text
        assert 'identifier="pkg.A"' in package["A.go"].docstring.value
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("docstring", "warning"),
    [
        ("", "pkg.f has no docstring"),
        ('"""See :func:`g`."""', "docstring of pkg.f: there is no 'g'"),
        ('"""See :func:`pkg.g`."""', "docstring of pkg.f: there is no 'pkg.g'"),
        ('"""See :ref:`g`."""', "docstring of pkg.f: there is no role 'ref'"),
        ('r"""A :math:`\\no`."""', "docstring of pkg.f: '\\\\no' has a command that"),
    ],
)
def test_mistakes_are_warnings(docstring, warning, caplog):
    """And so errors in `mkdocs build --strict`."""
    with load(f'"""Module."""\ndef f():\n    {docstring}\n    return 1\n'):
        pass
    (found,) = warnings(caplog)
    assert found.startswith(warning)


def test_arguments_documented_together_keep_their_types():
    code = '''"""Module."""
def f(a: int = 1, b: str = "x"):
    """Do.

    Parameters
    ----------
    a, b
        Both.
    """
'''
    with load(code) as package:
        (section,) = [part for part in package["f"].docstring.parsed if part.kind == "parameters"]
        found = [(one.name, str(one.annotation), one.value) for one in section.value]
    assert found == [("a", "int", "1"), ("b", "str", "'x'")]
