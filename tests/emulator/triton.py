"""Triton kernels on CPU tensors: `with emulator.triton.mode("compiled"): ...`."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import toolchain

__all__ = ["MODES", "compile_for", "launch", "missing", "mode"]

MODES = ("interpreted", "compiled")
_launchers: list[Callable[..., None]] = []


def missing() -> str | None:
    """Why Triton's kernels cannot run here, or None where they can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return toolchain.missing()


def compile_for(kernel, args: Sequence, meta: dict[str, Any], capability: int):
    """The PTX, the cubin and the metadata of a kernel, as `kernel[grid](*args, **meta)` makes it.

    `capability` is 80, 90, 100 or 120. No GPU and no driver is needed.
    """
    from . import compiled

    return compiled.compile_for(kernel, args, meta, capability)


def launch(kernel, grid: Sequence[int], *args: Any, **meta: Any) -> None:
    """Start a kernel in the mode entered, as `fusionops.triton._launch` does."""
    if not _launchers:
        raise RuntimeError("no mode entered: with emulator.triton.mode(...)")
    _launchers[-1](kernel, grid, *args, **meta)


@contextlib.contextmanager
def _serving() -> Iterator[None]:
    """Let the package's Triton operators serve CPU tensors, through `launch` above."""
    from fusionops import backend
    from fusionops import triton as kernels
    from fusionops.triton import _launch

    for home in sorted(set(kernels.HOMES.values())):  # else the first call inside imports it
        importlib.import_module(f"fusionops.triton.{home}")
    original = _launch.start
    _launch.start = lambda kernel, grid, args, meta: launch(kernel, grid, *args, **meta)
    try:
        with backend.emulate("triton"):
            yield
    finally:
        _launch.start = original


@contextlib.contextmanager
def mode(name: str) -> Iterator[None]:
    """Run Triton kernels on CPU tensors inside.

    ``"interpreted"``: in Triton's interpreter, float32 and float16. ``"compiled"``: as compiled for
    sm_80, through the emulator, bfloat16 too; `emulator.checks` and `emulator.guarded` hold there.
    """
    if name not in MODES:
        raise ValueError(f"name: expected one of {', '.join(MODES)}, got {name!r}")
    from . import compiled, interpreted

    chosen = interpreted if name == "interpreted" else compiled
    _launchers.append(chosen.launch)
    try:
        with _serving(), chosen.functions():
            yield
    finally:
        _launchers.pop()
