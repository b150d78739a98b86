"""Linear layers over the kernels' products.

The rows of a layer's input are many and narrow, and PyTorch's products are far from the peak of
many CPUs there. The tile of the fusion matrix is near it, forward and backward, and its sums do not
depend on the number of threads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionops import backend
from fusionops.ops.bilinear import scores


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``, as ``torch.nn.functional.linear``: by our kernels where they serve.

    That is for float32 on a CPU, without autocast, and not for subclasses of tensors, which have
    products of their own.
    """
    if not _served(x, weight):
        return nn.functional.linear(x, weight, bias)
    rows = x.reshape(1, -1, x.shape[-1])
    product = scores(rows, weight.unsqueeze(0)).reshape(*x.shape[:-1], len(weight))
    return product if bias is None else product + bias


def _served(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and type(x) in (Tensor, nn.Parameter)
        and type(weight) in (Tensor, nn.Parameter)
        and not torch.is_autocast_enabled("cpu")
        and backend.serving("fusion_matrix", x) == "kernels"
    )


class Linear(nn.Linear):
    """``torch.nn.Linear`` by :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """``[*, in]`` to ``[*, out]``."""
        return linear(x, self.weight, self.bias)
