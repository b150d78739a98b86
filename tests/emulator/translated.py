"""A PTX module as a library, whose kernels are started by name."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path

from . import objects, runtime
from .ptx import translate
from .runtime import EmulationError
from .toolchain import HOST_FLAGS, run


def write_object(cpp: str, output: Path, *flags: str | Path) -> None:
    """Compile translated code."""
    source = output.with_suffix(".cpp")
    source.write_text(cpp)
    run(["g++", *HOST_FLAGS, *runtime.include_flags(), source, "-o", output, *flags])
    source.unlink()


@functools.cache
def _library(ptx: str) -> ctypes.CDLL:
    cpp = translate(ptx).cpp
    key = objects.digest([runtime.cudart(), *objects.own_files("include")], cpp, HOST_FLAGS)
    path = objects.made(
        f"module-{key}.so", lambda output: write_object(cpp, output, "-shared", runtime.cudart())
    )
    runtime.library()
    return ctypes.CDLL(str(path))


class Module:
    """The kernels of a PTX module; translated and compiled once, whatever process asks."""

    def __init__(self, ptx: str) -> None:
        self._library = _library(ptx)

    def start(
        self,
        kernel: str,
        grid: Sequence[int],
        threads: int,
        arguments: Sequence,
        shared: int = 0,
    ) -> None:
        """Start a kernel with arguments that are ctypes values."""
        pointers = [ctypes.cast(ctypes.pointer(value), ctypes.c_void_p) for value in arguments]
        status = self._library.emulator_start(
            kernel.encode(),
            (ctypes.c_uint * 3)(*grid, *[1] * (3 - len(grid))),
            (ctypes.c_uint * 3)(threads, 1, 1),
            ctypes.c_size_t(shared),
            (ctypes.c_void_p * len(pointers))(*pointers),
        )
        if status:
            raise EmulationError(runtime.last_error())
