"""The suites on a GPU: who takes part, when a call is done, and what memory it took.

Everyone of the CPU's suites whom PyTorch runs takes part, ours also by the Triton kernels where
CUDA C++ serves otherwise, and attention also by FlashAttention alone.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import fusionops
from comparison.cases import CUDA, FAISS, OURS, USEARCH, Call, Case, Suite, UnavailableError
from fusionops import cuda_library, triton

DTYPES = ("bfloat16", "float32")
TOLERANCES = {"bfloat16": 0.03, "float32": 1e-4}
TRITON = "fusionops triton"
FLASH = {"sdpa": "sdpa flash", "two sdpa": "two sdpa flash"}
BASES = {TRITON: OURS, **{flash: base for base, flash in FLASH.items()}}
"""Contenders that are another one, run in a context."""


class Contenders(NamedTuple):
    """Names, ours first."""

    names: tuple[str, ...]
    ours: int


def contenders(operator: str, suite: Suite) -> Contenders:
    """Who takes part in a suite of `operator` on a GPU."""
    ours = list(suite.contenders[: suite.ours])
    if operator in cuda_library.OPERATORS and operator in triton.HOMES:
        ours.append(TRITON)
    others = [name for name in suite.contenders[suite.ours :] if name not in (FAISS, USEARCH)]
    flash = [FLASH[name] for name in others if name in FLASH]
    return Contenders((*ours, *others, *flash, *suite.gpu_contenders), len(ours))


def setup(suite: Suite, case: Case) -> Call:
    """The call of one contender; it returns when the GPU is done."""
    call = suite.setup(replace(case, contender=BASES.get(case.contender, case.contender)))

    def done() -> tuple[Tensor, ...]:
        results = call()
        if case.device == CUDA:
            torch.cuda.synchronize()
        return results

    if case.contender not in BASES:
        return done
    context = _triton if case.contender == TRITON else _flash

    def within() -> tuple[Tensor, ...]:
        with context():
            return done()

    return within


def _triton() -> AbstractContextManager[None]:
    return fusionops.use_backend("triton")


def _flash() -> AbstractContextManager[None]:
    return sdpa_kernel(SDPBackend.FLASH_ATTENTION)


def peak_of(call: Callable[[], object], device: str) -> int:
    """Bytes of GPU memory that one call takes beyond what was there before it."""
    if device != CUDA:
        raise UnavailableError("memory: not on a GPU")
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before


def machine() -> dict[str, object]:
    """Who ran it, for the report."""
    on_gpu = torch.cuda.is_available()
    return {
        "gpu": torch.cuda.get_device_name() if on_gpu else "no GPU",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cuda_library": list(cuda_library.architectures()),
        "fusionops": fusionops.__version__,
    }
