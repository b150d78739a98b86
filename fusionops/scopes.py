"""Settings that hold inside a ``with`` block, for every thread and under ``torch.compile``."""

from __future__ import annotations

from types import TracebackType
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Scope(Generic[Value]):
    """A context manager that puts `value` in front of a list, and takes it out again.

    The first entry of `active`, a module global of the subclass's module, is what holds; see
    :func:`innermost`. Each leaves with its own entry, so blocks of several threads may overlap in
    any order and one instance may be entered again: when all are left, nothing holds.

    A global and not a ContextVar, which breaks ``torch.compile(fullgraph=True)`` in torch 2.13.
    Nor a lock, which it cannot trace: ``insert`` and ``remove`` of a list are atomic, and nothing
    here looks at a list twice.
    """

    def __init__(self, value: Value, active: list[Scope[Value]]) -> None:
        self.value = value
        self._active = active

    def __enter__(self) -> None:
        self._active.insert(0, self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._active.remove(self)


def innermost(active: list[Scope[Value]], default: Value) -> Value:
    """The value of the block entered last among those not left; `default` outside of all."""
    for scope in active:
        return scope.value
    return default
