"""Which implementation serves a call, and how to choose one.

Without a choice, CPU tensors go to the C++ kernels and tensors of every other device to a chunked
composition of PyTorch operators.
"""

from __future__ import annotations

import torch

from fusionops.scopes import Scope, Setting

BACKENDS = ("cpu", "cuda", "triton", "reference")

_choice: Setting[str | None] = Setting()


class use_backend(Scope[str | None]):  # noqa: N801 - named as torch.no_grad is
    """Choose the implementation of every operator called inside.

    Parameters
    ----------
    name : {"cpu", "cuda", "triton", "reference"}
        ``"cpu"``, the C++ kernels (CPU tensors only); ``"reference"``, the few lines of plain
        PyTorch in :mod:`fusionops.reference`, which may hold ``[U, P]``. ``"cuda"`` and
        ``"triton"`` name kernels that this version does not have.

    Raises
    ------
    ValueError
        If the name is unknown.
    RuntimeError
        If this build cannot serve that backend. An explicit choice never falls back.

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
        if name in ("cuda", "triton"):
            raise RuntimeError(
                f"backend {name!r} cannot be had: this version of fusionops has no {name} kernels"
            )
        super().__init__(_choice, name)


def serving(device: torch.device) -> str:
    """Who serves a call on `device`: ``"cpu"``, ``"reference"`` or ``"composition"``."""
    chosen = _choice.get(None)
    if chosen == "reference":
        return "reference"
    if device.type == "cpu":
        return "cpu"
    if chosen == "cpu":
        raise RuntimeError(f"backend 'cpu' was chosen, but the tensors are on {device}")
    return "composition"
