"""Ragged lists of item indices per user, in every form that the operators take them in."""

from __future__ import annotations

import itertools

import scipy.sparse
import torch
from support import listed


def jagged(lists, items):
    offsets, indices = lists
    return torch.nested.nested_tensor_from_jagged(indices, offsets)


def jagged_with_holes(lists, items):
    """Rows with a gap after each, filled with items that must not be read."""
    offsets, indices = (part.tolist() for part in lists)
    values, starts, lengths = [], [], []
    for begin, end in itertools.pairwise(offsets):
        starts.append(len(values))
        lengths.append(end - begin)
        values += [*indices[begin:end], 0, items - 1, items // 2]
    return torch.nested.nested_tensor_from_jagged(
        torch.tensor(values, dtype=torch.int64),
        torch.tensor([*starts, len(values)]),
        torch.tensor(lengths),
    )


def dense(lists, items):
    return listed(lists, len(lists[0]) - 1, items).float().numpy()


def torch_csr(lists, items):
    return torch.from_numpy(dense(lists, items)).to_sparse_csr()


def scipy_csr(lists, items):
    return scipy.sparse.csr_matrix(dense(lists, items))


def scipy_csr_array(lists, items):
    return scipy.sparse.csr_array(dense(lists, items))


def scipy_csr_as_given(lists, items):
    """Unsorted and repeated columns, and stored zeros: every stored entry counts."""
    offsets, indices = (part.numpy() for part in lists)
    data = torch.zeros(len(indices)).numpy()
    return scipy.sparse.csr_matrix((data, indices, offsets), shape=(len(offsets) - 1, items))


def pair(lists, items):
    return lists


FORMS = [
    pair,
    jagged,
    jagged_with_holes,
    torch_csr,
    scipy_csr,
    scipy_csr_array,
    scipy_csr_as_given,
]
