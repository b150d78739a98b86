"""What is checked while kernels run, and which memory they may touch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch

from . import runtime

ORDERS = ("forward", "backward", "shuffled")
_checks: list[tuple[bool, bool, str, int]] = [(False, False, "forward", 0)]
_guarding = False


def _apply() -> None:
    race, init, order, seed = _checks[-1]
    runtime.library().emulator_settings(race, init, ORDERS.index(order), seed)


@contextlib.contextmanager
def checks(
    race: bool = True, init: bool = True, order: str = "forward", seed: int = 1
) -> Iterator[None]:
    """Run kernels with these checks of shared memory, in this order of threads.

    `race`: two threads touch a byte, one of them writes, and no barrier lies between. `init`: a
    byte is read that nobody wrote. `order`: in which order the threads of a block take their turns
    between two barriers; `seed` decides which shuffle.
    """
    if order not in ORDERS:
        raise ValueError(f"order: expected one of {', '.join(ORDERS)}, got {order!r}")
    _checks.append((race, init, order, seed))
    _apply()
    try:
        yield
    finally:
        _checks.pop()
        _apply()


def span(tensor: torch.Tensor) -> tuple[int, int]:
    """The first byte of a strided tensor and the number of bytes to its last."""
    if tensor.numel() == 0:
        return tensor.data_ptr(), 0
    last = sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return tensor.data_ptr(), (last + 1) * tensor.element_size()


@contextlib.contextmanager
def guarded(*tensors: torch.Tensor, read_only: tuple[torch.Tensor, ...] = ()) -> Iterator[None]:
    """Refuse every access of global memory outside these tensors and what torch allocates inside.

    A strided tensor's span is what may be touched, from its first element to its last. Tensors in
    `read_only` may be read alone. What torch allocates inside (results, scratch) is known to the
    byte, and starts as NaN, so that an element that no kernel wrote shows.
    """
    global _guarding
    if _guarding:
        raise RuntimeError("guards do not nest: name all tensors in one")
    library = runtime.library()
    library.emulator_record_allocations(1)
    library.emulator_watch(None, 0, 0)  # a guard without tensors is one all the same
    for tensor in tensors:
        library.emulator_watch(*span(tensor), 0)
    for tensor in read_only:
        library.emulator_watch(*span(tensor), 1)
    _guarding = True
    try:
        yield
    finally:
        _guarding = False
        library.emulator_record_allocations(0)
        library.emulator_unwatch()


@contextlib.contextmanager
def watched(tensors: Sequence[torch.Tensor]) -> Iterator[None]:
    """Refuse accesses outside the tensors of one launch, unless a guard says what is allowed."""
    if _guarding:
        yield
        return
    library = runtime.library()
    for tensor in tensors:
        library.emulator_watch(*span(tensor), 0)
    try:
        yield
    finally:
        library.emulator_unwatch()
