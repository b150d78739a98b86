"""Which implementation serves a call, and how to choose one.

Without a choice, CPU tensors go to the C++ kernels; CUDA tensors to the CUDA C++ kernels where the
library was built for their GPU, else to the Triton kernels; and whatever no kernel of ours serves
to a chunked composition of PyTorch operators.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusionops import cuda_library, triton
from fusionops.scopes import Scope, Setting

BACKENDS = ("cpu", "cuda", "triton", "reference")

_choice: Setting[str | None] = Setting()
_emulated: Setting[str | None] = Setting()


class use_backend(Scope[str | None]):  # noqa: N801 - named as torch.no_grad is
    """Choose the implementation of every operator called inside.

    Parameters
    ----------
    name : {"cpu", "cuda", "triton", "reference"}
        ``"cpu"``, the C++ kernels (CPU tensors only); ``"cuda"``, the CUDA C++ kernels, and
        ``"triton"``, the Triton kernels (CUDA tensors only); ``"reference"``, the few lines of
        plain PyTorch in :mod:`fusionops.reference`, which may hold ``[U, P]``.

    Raises
    ------
    ValueError
        If the name is unknown.
    RuntimeError
        If this build cannot serve that backend; and, from an operator called inside, if the backend
        has no kernel for that operator, device or size. An explicit choice never falls back.

    Notes
    -----
    The choice is global to the process, not to a thread; of several, that entered last holds.

    Examples
    --------
    >>> import torch, fusionops
    >>> with fusionops.use_backend("reference"):
    ...     fusionops.fusion_matrix(torch.eye(2), torch.eye(2)).shape
    torch.Size([2, 2])
    """

    def __init__(self, name: str) -> None:
        if name not in BACKENDS:
            raise ValueError(f"name: expected one of {', '.join(BACKENDS)}, got {name!r}")
        if _emulated.get(None) != name:
            if name == "cuda" and not cuda_library.PATH.exists():
                raise RuntimeError(f"backend 'cuda' cannot be had: {cuda_library.NOT_BUILT}")
            if name == "triton" and not triton.AVAILABLE:
                raise RuntimeError(
                    "backend 'triton' cannot be had: Triton is not installed (pip install triton)"
                )
        super().__init__(_choice, name)


class emulate(Scope[str | None]):  # noqa: N801
    """CPU tensors are served as if they were on a GPU: for tests of the kernels without one.

    Parameters
    ----------
    name : {"cuda", "triton"}
        Whose kernels; whoever enters this has made them run on CPU tensors (``tests/emulator``).
    """

    def __init__(self, name: str) -> None:
        super().__init__(_emulated, name)


def provider(operator: str, tensor: Tensor, within: bool = True) -> str:
    """Who computes a native operator on the device of `tensor`.

    Parameters
    ----------
    operator : str
        Its name in ``csrc/torch/schemas.h``.
    tensor : Tensor
        One of its arguments.
    within : bool
        Whether the sizes are in the range of the CUDA C++ kernel.

    Returns
    -------
    str
        ``"native"``, the operator of namespace ``fusionops``; ``"emulated"``, ``"triton"``; or
        ``"torch"`` where no kernel of ours serves.
    """
    device, emulated = tensor.device, _emulated.get(None)
    if device.type != "cuda" and emulated is None:
        return "native"  # on "meta", their shapes
    if tensor.dtype == torch.float64:
        return "torch"
    chosen = _choice.get(None)
    if chosen != "triton" and operator in cuda_library.OPERATORS and within:
        if emulated == "cuda":
            return "emulated"
        if emulated is None and cuda_library.covers(device.index):
            return "native"
    if chosen != "cuda" and operator in triton.HOMES and _runs_triton(device, emulated):
        return "triton"
    return "torch"


def serving(operator: str, tensor: Tensor, within: bool = True) -> str:
    """Who serves a call of a public operator: ``"kernels"``, ``"reference"`` or ``"composition"``.

    Raises
    ------
    RuntimeError
        If a backend was chosen that cannot serve it.
    """
    chosen = _choice.get(None)
    if chosen == "reference":
        return "reference"
    on_cpu = tensor.device.type == "cpu" and _emulated.get(None) is None
    if (chosen == "cpu") != on_cpu and chosen is not None:
        raise RuntimeError(f"backend {chosen!r} was chosen, but the tensors are on {tensor.device}")
    ours = tensor.device.type in ("cpu", "cuda")
    if ours and provider(operator, tensor, within) != "torch":
        return "kernels"
    if chosen in ("cuda", "triton"):
        raise RuntimeError(
            f"backend {chosen!r} was chosen, but has no kernel for {operator} of {tensor.dtype} "
            f"tensors of this size on {tensor.device}"
        )
    return "composition"


def _runs_triton(device: torch.device, emulated: str | None) -> bool:
    if emulated is not None:
        return emulated == "triton"
    covered: bool = triton.covers(device.index)
    return covered
