"""Settings that hold inside a ``with`` block, for every thread and under ``torch.compile``."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

import torch

Value = TypeVar("Value")

_lock = threading.Lock()


@dataclass(eq=False)
class _Block(Generic[Value]):
    """A block that was entered and not left yet."""

    value: Value
    below: _Block[Value] | None
    """The block that was entered before this one, by whomever."""
    outer: _Block[Value] | None
    """The block that the same context manager opened before, if it is entered again."""


class Setting(Generic[Value]):
    """What holds now: a module global, as ``torch.compile(fullgraph=True)`` can guard on one.

    A ContextVar breaks it in torch 2.13. A linked list, because what a traced block changes is
    written back when the compiled function ends: here that is the `top` of that moment, where a
    list would be put together from members that other threads may have taken out meanwhile.
    """

    def __init__(self) -> None:
        self.top: _Block[Value] | None = None

    def get(self, default: Value) -> Value:
        """The value of the block entered last among those not left; `default` outside of all."""
        top = self.top
        return default if top is None else top.value


class Scope(Generic[Value]):
    """A context manager in which `setting` has `value`.

    Each leaves with its own block, so those of several threads may overlap in any order and one
    instance may be entered again: when all are left, nothing holds.
    """

    def __init__(self, setting: Setting[Value], value: Value) -> None:
        self.value = value
        self._setting = setting
        self._innermost: _Block[Value] | None = None

    def __enter__(self) -> None:
        with _exclusive():
            self._innermost = _Block(self.value, self._setting.top, self._innermost)
            self._setting.top = self._innermost

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with _exclusive():
            block, above = self._innermost, self._setting.top
            if block is None:
                raise RuntimeError(f"{type(self).__name__}: left more often than entered")
            self._innermost = block.outer
            if above is block:
                self._setting.top = block.below
                return
            while above is not None and above.below is not block:
                above = above.below
            if above is not None:
                above.below = block.below


def _exclusive() -> AbstractContextManager[object]:
    """One thread at a time; the compiler, which traces one, takes no locks."""
    return nullcontext() if torch.compiler.is_compiling() else _lock
