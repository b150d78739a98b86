"""The closed form: item vectors with ``E E' = f(S_PP)``, ``f(x) = x (x + ridge)^-power``.

In the terms of the fusion matrix an item is ``[X_s' | sqrt(c) Phi]``, with the scaled histories
``X_s = n_u^-a X n_i^-b`` and ``Phi Phi'`` the content kernel, so ``S_PP = G = X_s' X_s + c K``. A
user is the sum of the items of the history h, so by the push-through identity
``F = S_UP (S_PP + ridge I)^-power = h G (G + ridge I)^-power``. The eigenvectors of G for its
``rank`` largest eigenvalues, scaled by ``f(lambda)^0.5``, are ``E [P, rank]``: ``F = (h E) E'``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor

from fusionops.models.linear_fusion.landmarks import Landmarks
from fusionops.models.linear_fusion.parameters import Parameters

Floats = npt.NDArray[np.float32]
Apply = Callable[[Tensor], Tensor]

_FULL_EIGEN = 4  # all eigenvectors cost less than a search for the first ones up to 4 x rank
_OVERSAMPLING = 64
_ITERATIONS = 4
_USERS_AT_A_TIME = 1 << 16


def scaled_histories(
    histories: sparse.csr_array, parameters: Parameters
) -> tuple[sparse.csr_array, Floats]:
    """``X_s`` and the scale ``n_i^-b [P]`` of the items."""
    per_user = np.maximum(np.diff(histories.indptr), 1).astype(np.float64)
    per_item = np.bincount(histories.indices, minlength=histories.shape[1])
    item_scale = item_scales(per_item, parameters)
    user_scale = per_user**-parameters.user_exponent
    scaled = histories.copy()
    scale = np.repeat(user_scale, np.diff(scaled.indptr)) * item_scale[scaled.indices]
    scaled.data = (scaled.data * scale).astype(np.float32)
    return scaled, item_scale


def item_scales(users_per_item: npt.NDArray[np.integer], parameters: Parameters) -> Floats:
    """``n_i^-b``, with which an item enters a profile; 1 for an item without history."""
    count = np.maximum(users_per_item, 1).astype(np.float64)
    scales: Floats = (count**-parameters.item_exponent).astype(np.float32)
    return scales


def dense_item_vectors(
    scaled: sparse.csr_array, kernel: Floats | None, parameters: Parameters
) -> Floats:
    """``E [P, rank]`` with the Gram matrix in memory.

    Parameters
    ----------
    scaled : scipy.sparse.csr_array
        ``X_s [U, P]``.
    kernel : numpy.ndarray or None
        ``K [P, P]``, of mean diagonal 1.
    """
    gram = torch.from_numpy((scaled.T @ scaled).toarray().astype(np.float32, copy=False))
    unit = float(gram.diagonal().mean())
    if kernel is not None:
        gram += parameters.content_weight * unit * torch.from_numpy(kernel)
    rank = min(parameters.rank, gram.shape[0])
    if gram.shape[0] <= _FULL_EIGEN * rank:
        values, vectors = torch.linalg.eigh(gram)
        values, vectors = values[-rank:].flip(0), vectors[:, -rank:].flip(1)
    else:
        values, vectors = leading_eigenvectors(gram.__matmul__, gram.shape[0], rank)
    return _shaped(values, vectors, unit, parameters)


def streamed_item_vectors(
    scaled: sparse.csr_array, landmarks: Landmarks | None, parameters: Parameters
) -> Floats:
    """``E [P, rank]`` without a matrix of items by items: G is only applied to ``rank`` vectors."""
    squares = np.bincount(scaled.indices, scaled.data**2, minlength=scaled.shape[1])
    unit = float(squares.mean())

    def apply(block: Tensor) -> Tensor:
        dense = block.numpy()
        result = np.zeros_like(dense)
        for start in range(0, scaled.shape[0], _USERS_AT_A_TIME):
            rows = scaled[start : start + _USERS_AT_A_TIME]
            result += rows.T @ (rows @ dense)
        total = torch.from_numpy(result)
        if landmarks is not None:
            total += parameters.content_weight * unit * landmarks.apply_kernel(block)
        return total

    n_items = scaled.shape[1]
    values, vectors = leading_eigenvectors(apply, n_items, min(parameters.rank, n_items))
    return _shaped(values, vectors, unit, parameters)


def leading_eigenvectors(apply: Apply, n: int, rank: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues, descending, and their eigenvectors, of a symmetric operator.

    Subspace iteration from a fixed random start (Halko, Martinsson and Tropp 2011).
    """
    width = min(n, rank + _OVERSAMPLING)
    block = torch.randn(n, width, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(block).Q
    for _ in range(_ITERATIONS):
        basis = torch.linalg.qr(apply(basis)).Q
    inner = basis.mT @ apply(basis)
    values, vectors = torch.linalg.eigh((inner + inner.mT) / 2)
    return values[-rank:].flip(0), basis @ vectors[:, -rank:].flip(1)


def _shaped(values: Tensor, vectors: Tensor, unit: float, parameters: Parameters) -> Floats:
    """``V f(lambda)^0.5``; the sharpened kernel may be slightly indefinite, below 0 counts as 0."""
    kept = values.clamp_min(0.0)
    weight = kept * (kept + parameters.ridge * unit).pow(-parameters.power)
    return np.asarray((vectors * weight.sqrt()).contiguous().numpy())
