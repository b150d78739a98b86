"""LaTeX to MathML, while the site is built.

Browsers typeset MathML themselves: no JavaScript, no fonts and no network, unlike MathJax and
KaTeX, which would have to be copied into the repository or loaded from elsewhere.
"""

from __future__ import annotations

from xml.etree import ElementTree

from latex2mathml.converter import convert

# Elements that need so many parts; with fewer, browsers show an error.
_PARTS = {"mfrac": 2, "mover": 2, "mroot": 2, "msub": 2, "msubsup": 3, "msup": 2}
_PARTS |= {"munder": 2, "munderover": 3}


class FormulaError(ValueError):
    """A formula that cannot be typeset."""


def typeset(latex: str, *, display: bool) -> str:
    """One formula as a ``<math>`` element, on a line of its own or within one."""
    try:
        found: str = convert(latex, display="block" if display else "inline")
        root = ElementTree.fromstring(found)
    except Exception as error:  # each mistake has a class of its own, with no other common base
        reason = str(error) or type(error).__name__
        raise FormulaError(f"{latex!r} cannot be typeset: {reason}") from error
    # What latex2mathml does not understand it passes through without a word.
    for element in root.iter():
        name = element.tag.partition("}")[2]
        if "\\" in (element.text or "") or (name == "mo" and not element.text):
            raise FormulaError(f"{latex!r} has a command that latex2mathml does not know")
        if len(element) != _PARTS.get(name, len(element)):
            raise FormulaError(f"{latex!r} lacks an argument of {name}")
    return found
