"""PTX, as nvcc and Triton write it, translated to C++."""

from .draft import Module


def translate(text: str) -> str:
    """The C++ of a PTX module; it includes the emulator's headers."""
    return Module(text).cpp()
