"""The library of CUDA C++ kernels: whether it is there, and which GPUs it covers."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch

PATH = Path(__file__).resolve().parent / "lib" / "libfusionops_torch_cuda.so"

NOT_BUILT = (
    "this build of fusionops has no CUDA library; install with FUSIONOPS_CUDA=1 and nvcc "
    "(docs/building.md)"
)

OPERATORS = frozenset(
    {
        "fusion_matrix",
        "fusion_topk",
        "attention_fusion",
        "attention_fusion_backward",
    }
)
"""The native operators that it has kernels for."""


@functools.cache
def architectures() -> tuple[str, ...]:
    """What it was built for, as ``("80", "90", "120-virtual")``; nothing where it is not built.

    A number is machine code of that compute capability times ten; ``-virtual`` is PTX, which the
    driver compiles for that GPU and all later ones.
    """
    if not PATH.exists():
        return ()
    ask = ctypes.CDLL(str(PATH)).fusionops_cuda_architectures
    ask.restype = ctypes.c_char_p
    return tuple(ask().decode().split(";"))


def runs_on(built: tuple[str, ...], capability: tuple[int, int]) -> bool:
    """Whether code for the architectures `built` runs on a GPU of that compute capability."""
    for name in built:
        number, _, virtual = name.partition("-")
        of = divmod(int(number), 10)
        # Machine code runs on later GPUs of its own generation only, PTX on all later ones.
        if of <= capability and (virtual or of[0] == capability[0]):
            return True
    return False


@functools.cache
def capability(index: int | None) -> tuple[int, int]:
    """The compute capability of a CUDA device; (0, 0) of what is not NVIDIA's."""
    if torch.version.cuda is None:
        return (0, 0)
    return torch.cuda.get_device_capability(index)


@functools.cache
def _covers(index: int | None) -> bool:
    return runs_on(architectures(), capability(index))


# A constant to Dynamo, which looks through a cache and would trace what is behind it.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def covers(index: int | None) -> bool:
    """Whether the library has code for a CUDA device."""
    return _covers(index)
