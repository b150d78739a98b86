"""CUDA and Triton kernels on the CPU, with checks that no GPU makes. See docs/emulator.md."""

from .runtime import EmulationError, last_error
from .settings import checks, guarded
from .toolchain import BuildError, missing

__all__ = ["BuildError", "EmulationError", "checks", "guarded", "last_error", "missing"]
