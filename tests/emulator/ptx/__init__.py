"""PTX, as nvcc and Triton write it, translated to C++ that runs on the emulator's fibers.

In passes: `syntax` takes the text apart, `names` gives registers and variables C++ names,
`operands` turns operands into expressions, `instructions` holds the table of opcodes, `emission`
writes functions. Every instruction becomes a statement, every register a variable, every branch a
goto.
"""

from .emission import Translation, emit
from .syntax import PtxError, parse

__all__ = ["PtxError", "Translation", "translate"]


def translate(text: str) -> Translation:
    """Translate a PTX module."""
    return emit(parse(text))
