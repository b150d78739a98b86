"""The Triton kernels: one file an operator, registered in the namespace ``fusionops_triton``.

Importable without Triton and without a GPU: :func:`register` loads what is needed when Triton is
there.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping

import torch

from fusionops import cuda_library

HOMES: Mapping[str, str] = {
    "attention_fusion": "attention_fusion",
    "attention_fusion_backward": "attention_fusion",
    "bidirectional_fusion": "bidirectional_fusion",
    "bidirectional_fusion_backward": "bidirectional_fusion",
    "history_fusion": "history_fusion",
    "history_fusion_backward": "history_fusion",
    "weighted_fusion": "weighted_fusion",
    "weighted_fusion_backward": "weighted_fusion",
    "inverse_norm": "inverse_norm",
    "fusion_matrix": "fusion_matrix",
    "fusion_contract": "fusion_matrix",
    "fusion_cross_entropy": "fusion_cross_entropy",
    "fusion_cross_entropy_backward": "fusion_cross_entropy",
    "fusion_contrastive": "fusion_contrastive",
    "fusion_contrastive_backward": "fusion_contrastive",
}
"""The operators that have a Triton kernel, and the module of each."""

LEAST_CAPABILITY = (8, 0)
"""The compute capability of the oldest GPU that the kernels are compiled for."""

AVAILABLE = importlib.util.find_spec("triton") is not None


# A constant to Dynamo, as `cuda_library.covers` is.
@torch.compiler.assume_constant_result
def covers(index: int | None) -> bool:
    """Whether the kernels run on a CUDA device here."""
    return AVAILABLE and cuda_library.capability(index) >= LEAST_CAPABILITY


_library = torch.library.Library("fusionops_triton", "IMPL")


def register() -> None:
    """Registers the host functions, each under its operator's name.

    A module is loaded when its operator is first called: importing Triton takes a second.
    """
    for name, home in HOMES.items():
        _library.impl(name, _Late(name, home), "CompositeExplicitAutograd")


class _Late:
    """The function `name` of ``fusionops.triton.<home>``, imported by the first call."""

    def __init__(self, name: str, home: str) -> None:
        self.name, self.home = name, home

    def __call__(self, *args: object) -> object:
        module = importlib.import_module(f"fusionops.triton.{self.home}")
        return getattr(module, self.name)(*args)
