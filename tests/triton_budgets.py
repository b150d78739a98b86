"""What Triton kernels may need of each GPU: a table of calls, and how a call's kernels are read."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import emulator.triton
from emulator import resources
from triton_support import load_kernels

# Shared memory that a block can have, in bytes.
SHARED = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10, 120: 99 << 10}
TENSOR_CORES = {80: "mma.sync", 90: "wgmma.mma_async", 100: "tcgen05.mma", 120: "mma.sync"}


@dataclass(frozen=True)
class Budget:
    """A call of a host function, and what each of its kernels that is named here may need.

    `registers` are those of a thread, by kernel; several launches of one kernel share a number.
    `tensor_cores` are the kernels with products for them; with `small_tiles` those of one warp, as
    later GPUs have them too.
    """

    name: str
    call: Callable[[], Any]
    registers: Mapping[str, int]
    tensor_cores: tuple[str, ...] = ()
    capabilities: tuple[int, ...] = tuple(SHARED)
    small_tiles: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Needs:
    """One kernel of a call, as compiled for a GPU."""

    kernel: str
    resources: resources.Resources
    shared: int


@contextlib.contextmanager
def _recorded() -> Iterator[list[tuple[Any, tuple, dict[str, Any]]]]:
    """Keeps the launches made inside, and starts none of them."""
    from fusionops.triton import _launch

    load_kernels()
    launches: list[tuple[Any, tuple, dict[str, Any]]] = []

    def record(kernel: Any, grid: Any, *args: Any, **meta: Any) -> None:
        launches.append((kernel, args, meta))

    original = _launch.launch
    homes = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("fusionops.triton") and getattr(module, "launch", None) is original
    ]
    for module in homes:
        module.launch = record
    try:
        yield launches
    finally:
        for module in homes:
            module.launch = original


@functools.cache
def _launches(call: Callable[[], Any]) -> list[tuple[Any, tuple, dict[str, Any]]]:
    with _recorded() as launches:
        call()
    return launches


def needs(budget: Budget, capability: int) -> list[Needs]:
    """What the kernels of a call that have a budget need of a GPU of this capability."""
    found = []
    for kernel, args, meta in _launches(budget.call):
        if kernel.__name__ not in budget.registers:
            continue
        ptx, _, metadata = emulator.triton.compile_for(kernel, args, meta, capability)
        read = resources.of_triton(ptx, capability)
        found.append(Needs(kernel.__name__, read, metadata.shared))
    return found
