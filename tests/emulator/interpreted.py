"""Triton kernels in Triton's own interpreter, beside compiled ones in the same process.

Triton decides at import, for the whole process, whether `@triton.jit` makes a compiled function or
an interpreted one. Here every compiled one, Triton's own library included, is replaced by an
interpreted one of the same source while a mode is entered, and put back afterwards.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import triton.experimental.gluon  # noqa: F401 - else Triton does, amid interpreted functions
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

_LIBRARIES = ("triton.language", "fusionops.triton")


@functools.cache
def _of(source: Callable) -> InterpretedFunction:
    return InterpretedFunction(source)


def _interpreted(function: JITFunction) -> InterpretedFunction:
    # By its source: the hash of a JITFunction compiles in what its module holds at that moment.
    return _of(function.fn)


def _modules(*names: str) -> list[Any]:
    return [
        module
        for name, module in list(sys.modules.items())
        if module is not None and any(name == top or name.startswith(top + ".") for top in names)
    ]


def _with_classes(modules: Sequence[Any]) -> list[Any]:
    """The modules, and Triton's classes in them: `x.sum()` is an attribute of `tl.tensor`."""
    classes = {
        id(value): value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__.startswith("triton.language")
    }
    return [*modules, *classes.values()]


def _restore(owner: Any, before: dict[str, Any]) -> None:
    if isinstance(owner, type):  # what a module got stays: rewritten functions look for it there
        for name in [name for name in vars(owner) if name not in before]:
            delattr(owner, name)
    for name, value in before.items():
        if vars(owner).get(name) is not value:
            setattr(owner, name, value)


@contextlib.contextmanager
def functions(*names: str) -> Iterator[None]:
    """Interpret the `@triton.jit` functions of Triton's library, of ours, and of these modules.

    Everything in Triton's language is put back afterwards: the interpreter replaces its operators
    too, and leaves those behind that it replaced for a function called by a kernel.
    """
    owners = _with_classes(_modules(*_LIBRARIES, *names))
    before = [(owner, dict(vars(owner))) for owner in owners]
    try:
        for owner, attributes in before:
            for name, value in attributes.items():
                if isinstance(value, JITFunction):
                    setattr(owner, name, _interpreted(value))
        yield
    finally:
        for owner, attributes in before:
            _restore(owner, attributes)


def launch(kernel: Any, grid: Sequence[int], *args: Any, **meta: Any) -> None:
    """Start a kernel in the interpreter, on CPU tensors."""
    for value in args:
        if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16:
            raise TypeError(
                "bfloat16 cannot be interpreted: Triton's interpreter computes with its bit "
                "patterns; use the mode 'compiled'"
            )
    if isinstance(kernel, JITFunction):  # of a test, whose module is not among ours
        with functions(kernel.fn.__module__):
            launch(_interpreted(kernel), grid, *args, **meta)
        return
    kernel[tuple(grid)](*args, **meta)
