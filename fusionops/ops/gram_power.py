r"""Powers of a Gram matrix on its row space, ``W = f(G)`` with ``f(x) = (x + ridge)^(-power)``.

With ``G = Q diag(a) Q^T``, ``W = Q diag(f(a)) Q^T``; eigenvalues up to
``max(P, D) eps a_max`` count as zero and get f = 0. The gradient is the Daleckii-Krein formula,
``Q (K o (Q^T dW Q)) Q^T`` with the divided differences ``K_ij = (f_i - f_j) / (a_i - a_j)``.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from fusionops.ops.bilinear import scores

_one_thread = threading.Lock()


def gram_power(gram: Tensor, power: float, ridge: float, rows: int) -> Tensor:
    """``(G + ridge I)^(-power)`` on the row space of ``G``: ``[B, D, D] -> [B, D, D]``.

    Parameters
    ----------
    gram : Tensor
        ``[B, D, D]``, symmetric and positive semi-definite, float32 or float64.
    power, ridge : float
        As in :func:`fusionops.fusion_matrix`.
    rows : int
        Number of rows P that ``G`` sums over; with D it sets the numerical rank.

    Notes
    -----
    Constant rank is assumed in the gradient. Source: Higham, Functions of Matrices (2008),
    theorem 3.11.
    """
    result: Tensor = _GramPower.apply(gram, power, ridge, rows)[0]
    return result


def _product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` by our kernel, whose bits do not depend on the threads as BLAS's do."""
    return scores(a, b.mT)


def _spectrum(values: Tensor, power: float, ridge: float, rows: int) -> tuple[Tensor, Tensor]:
    """Which eigenvalues are kept, and f of each."""
    largest = values[..., -1:].clamp_min(0)
    kept = values > max(rows, values.shape[-1]) * torch.finfo(values.dtype).eps * largest
    return kept, torch.where(kept, torch.where(kept, values + ridge, 1.0).pow(-power), 0.0)


def _divided_differences(values: Tensor, power: float, ridge: float, rows: int) -> Tensor:
    kept, f = _spectrum(values, power, ridge, rows)
    shifted = torch.where(kept, values + ridge, 1.0)
    larger = torch.maximum(shifted.unsqueeze(-1), shifted.unsqueeze(-2))
    smaller = torch.minimum(shifted.unsqueeze(-1), shifted.unsqueeze(-2))
    # ((1 + d)^-power - 1) / d with d = larger / smaller - 1, free of cancellation for small d.
    gap = (larger - smaller) / smaller
    near = torch.expm1(-power * torch.log1p(gap)) / torch.where(gap == 0, 1.0, gap)
    both = smaller.pow(-power - 1) * torch.where(gap == 0, -power, near)
    # Against a zero eigenvalue, where f counts as 0: f(a) / a.
    slope = torch.where(kept, f / torch.where(kept, values, 1.0), 0.0)
    one = slope.unsqueeze(-1) + slope.unsqueeze(-2)
    row, column = kept.unsqueeze(-1), kept.unsqueeze(-2)
    return torch.where(row & column, both, torch.where(row ^ column, one, 0.0))


class _GramPower(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        gram: Tensor, power: float, ridge: float, rows: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        values, vectors = torch.ops.fusionops.symmetric_eigen(gram)
        weights = _spectrum(values, power, ridge, rows)[1]
        return _product(vectors * weights.unsqueeze(-2), vectors.mT), values, vectors

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, ctx.power, ctx.ridge, ctx.rows = inputs
        _, values, vectors = output
        ctx.mark_non_differentiable(values, vectors)
        ctx.save_for_backward(values, vectors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        values, vectors = ctx.saved_tensors
        result = _GramPowerBackward.apply(grad, values, vectors, ctx.power, ctx.ridge, ctx.rows)
        return result, None, None, None


class _GramPowerBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad: Tensor, values: Tensor, vectors: Tensor, power: float, ridge: float, rows: int
    ) -> Tensor:
        kernel = _divided_differences(values, power, ridge, rows)
        symmetric = (grad + grad.mT) / 2
        inner = _product(_product(vectors.mT, symmetric), vectors)
        return _product(_product(vectors, kernel * inner), vectors.mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError(
            "normalization='matrix' can be differentiated once, not twice: use backend 'reference'"
        )


def _symmetric_eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues ascending, and eigenvectors, by LAPACK on one thread.

    With more, the last bits depend on how many. An operator of its own, so that ``torch.compile``
    does not trace into the change of the thread count.
    """
    if matrix.device.type != "cpu":
        return _eigh(matrix)
    with _one_thread:
        threads = torch.get_num_threads()
        if threads == 1:
            return _eigh(matrix)
        torch.set_num_threads(1)
        try:
            return _eigh(matrix)
        finally:
            torch.set_num_threads(threads)


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except RuntimeError:  # torch.linalg.LinAlgError is one
        raise ValueError(
            "item: expected finite values for normalization='matrix', got an item^T item whose "
            "eigenvalues can't be computed (NaN, infinite or huge entries)"
        ) from None
    return values, vectors.contiguous()


def _fake(matrix: Tensor) -> tuple[Tensor, Tensor]:
    return matrix.new_empty(matrix.shape[:-1]), torch.empty_like(
        matrix, memory_format=torch.contiguous_format
    )


def _vmap(info: Any, in_dims: tuple[int | None, ...], matrix: Tensor) -> tuple[Any, Any]:
    (dim,) = in_dims
    assert dim is not None  # vmap calls the rule only where something is mapped
    return torch.ops.fusionops.symmetric_eigen(matrix.movedim(dim, 0)), (0, 0)


torch.library.impl("fusionops::symmetric_eigen", "CompositeExplicitAutograd", _symmetric_eigen)
torch.library.register_fake("fusionops::symmetric_eigen", _fake)
torch.library.register_vmap("fusionops::symmetric_eigen", _vmap)
