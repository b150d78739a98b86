"""Builds the CUDA library for the emulator: `python -m emulator`, from tests/."""

from . import cuda

print(cuda.built())
