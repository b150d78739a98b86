"""Libraries for exact search, their indices of normalised items built beforehand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from comparison.cases import FAISS, Call, UnavailableError


def search_of(contender: str, user: Tensor, item: Tensor, k: int) -> Call:
    """``(scores, indices)`` of the k best items of each user, by faiss or by usearch."""
    queries = user.numpy()
    normalised = torch.nn.functional.normalize(item, dim=-1).numpy()
    return (_faiss if contender == FAISS else _usearch)(queries, normalised, k)


def _faiss(queries: npt.NDArray[np.float32], items: npt.NDArray[np.float32], k: int) -> Call:
    try:
        import faiss
    except ImportError as error:
        raise UnavailableError(f"faiss cannot be imported: {error}") from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)

    def search() -> tuple[Tensor, ...]:
        scores, indices = index.search(queries, k)
        return torch.from_numpy(scores), torch.from_numpy(indices)

    return search


def _usearch(queries: npt.NDArray[np.float32], items: npt.NDArray[np.float32], k: int) -> Call:
    try:
        from usearch.index import MetricKind, search
    except ImportError as error:
        raise UnavailableError(f"usearch cannot be imported: {error}") from error
    threads = torch.get_num_threads()

    def exact() -> tuple[Tensor, ...]:
        found = search(items, queries, k, MetricKind.IP, exact=True, threads=threads)
        # Its distance of inner products is one less the product. One query comes without rows.
        scores = 1.0 - torch.from_numpy(found.distances).reshape(len(queries), k)
        return scores, torch.from_numpy(found.keys.astype(np.int64)).reshape(len(queries), k)

    return exact
