"""Who may be recommended: exclude, allowed and candidates in all their forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from list_forms import FORMS
from support import (
    accumulation,
    assert_bits,
    assert_topk,
    bound,
    inputs,
    listed,
    name_of,
    normal,
    random_lists,
)

import fusionops
from fusionops import fusion_topk, reference


def truth(user, item, **norm):
    scores = reference.fusion_matrix(user.double(), item.double(), **norm)
    return scores, bound(user, item, accumulation(user.dtype), **norm)


@pytest.mark.parametrize("argument", ["exclude", "candidates"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("shape", [(9, 40, 5), (4, 5000, 7)], ids=name_of)
def test_forms(shape, form, argument):
    user, item = inputs(shape, torch.float32)
    lists = random_lists(*shape[:2], most=30, seed=1)
    mask = listed(lists, *shape[:2])
    scores, limit = truth(user, item, normalization="diagonal")
    scores = scores.masked_fill(mask == (argument == "exclude"), -torch.inf)
    found = fusion_topk(user, item, 12, **{argument: form(lists, shape[1])})
    assert_topk(found, scores, 12, limit)
    for ours, other in zip(found, fusion_topk(user, item, 12, **{argument: lists}), strict=True):
        assert_bits(ours, other)


@pytest.mark.parametrize("per_user", [False, True])
@pytest.mark.parametrize("shape", [(9, 40, 5), (4, 9000, 7)], ids=name_of)
def test_allowed(shape, per_user):
    user, item = inputs(shape, torch.float32)
    size = shape[:2] if per_user else shape[1:2]
    allowed = normal(*size, seed=2) > 0.7
    allowed[..., 0] = True
    scores, limit = truth(user, item, normalization="cosine")
    found = fusion_topk(user, item, 20, normalization="cosine", allowed=allowed)
    assert_topk(found, scores.masked_fill(~allowed, -torch.inf), 20, limit)


def test_nobody_allowed():
    user, item = inputs((3, 5000, 4), torch.float32)
    for barred in (
        {"allowed": torch.zeros(5000, dtype=torch.bool)},
        {"candidates": (torch.zeros(4, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))},
        {"exclude": (torch.arange(4) * 5000, torch.arange(5000).repeat(3))},
    ):
        scores, indices = fusion_topk(user, item, 3, **barred)
        assert bool((indices == -1).all())
        assert bool((scores == -torch.inf).all())


@pytest.mark.parametrize("strided", ["transposed", "expanded users", "expanded items", "sliced"])
def test_strides_of_allowed(strided):
    user, item = inputs((6, 90, 5), torch.float32)
    mask = normal(90, 6, seed=5) > 0
    allowed = {
        "transposed": mask.T,
        "expanded users": mask[:, 0].expand(6, 90),
        "expanded items": mask[0].unsqueeze(1).expand(6, 90),
        "sliced": (normal(12, 180, seed=6) > 0)[::2, ::2],
    }[strided]
    assert not allowed.is_contiguous()
    found = fusion_topk(user, item, 10, allowed=allowed)
    expected = fusion_topk(user, item, 10, allowed=allowed.contiguous())
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)


def test_strides_of_lists_and_bias():
    user, item = inputs((6, 90, 5), torch.float32)
    offsets, indices = random_lists(6, 90, most=20)
    wide = torch.stack([offsets, offsets + 1], 1)[:, 0], torch.stack([indices, indices], 1)[:, 1]
    assert not wide[1].is_contiguous()
    bias = normal(180)[::2]
    for argument in ("exclude", "candidates"):
        found = fusion_topk(user, item, 10, item_bias=bias, **{argument: wide})
        expected = fusion_topk(
            user, item, 10, item_bias=bias.contiguous(), **{argument: (offsets, indices)}
        )
        for ours, theirs in zip(found, expected, strict=True):
            assert_bits(ours, theirs)


def test_candidates_tie_by_index_not_by_place_in_the_list():
    candidates = torch.tensor([0, 5, 5]), torch.tensor([70, 3, 70, 50, 3])
    _, indices = fusion_topk(torch.ones(2, 1), torch.ones(90, 1), 4, candidates=candidates)
    assert indices.tolist() == [[3, 50, 70, -1], [-1, -1, -1, -1]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("normalization", ["diagonal", "matrix", "cosine", "none"])
def test_all_together(normalization, dtype):
    shape = users, items, _ = 11, 600, 31
    user, item = inputs(shape, dtype)
    exclude = random_lists(users, items, most=200, seed=1)
    candidates = random_lists(users, items, most=400, seed=2)
    allowed = normal(users, items, seed=3) > -0.5
    bias = normal(items, seed=4)
    found = fusion_topk(
        user,
        item,
        30,
        normalization=normalization,
        item_bias=bias,
        exclude=exclude,
        allowed=allowed,
        candidates=candidates,
    )
    scores, limit = truth(user, item, normalization=normalization)
    scores = scores + bias.double()
    mask = listed(candidates, users, items) & allowed & ~listed(exclude, users, items)
    limit = limit + torch.finfo(accumulation(dtype)).eps * (scores.abs() + bias.abs())
    assert_topk(found, scores.masked_fill(~mask, -torch.inf), 30, limit)


def test_gradients_reach_only_what_is_listed():
    users, items = 5, 60
    user, item = (side.requires_grad_() for side in inputs((users, items, 4), torch.float64))
    exclude = random_lists(users, items, most=40, seed=1)
    candidates = random_lists(users, items, most=40, seed=2)
    scores, indices = fusion_topk(user, item, 9, exclude=exclude, candidates=candidates)
    grad = normal(users, 9, dtype=torch.float64)
    found = torch.autograd.grad(scores, (user, item), grad)
    matrix = reference.fusion_matrix(user, item)
    chosen = indices >= 0
    assert chosen.any()
    rows = torch.arange(users).unsqueeze(1).expand_as(indices)[chosen]
    total = (matrix[rows, indices[chosen]] * grad[chosen]).sum()
    for ours, theirs in zip(found, torch.autograd.grad(total, (user, item)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_empty_with_lists():
    nothing = torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    found = fusion_topk(torch.ones(0, 3), torch.ones(4, 3), 2, exclude=nothing, candidates=nothing)
    assert [part.shape for part in found] == [(0, 2), (0, 2)]
    nothing = torch.zeros(3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    scores, indices = fusion_topk(
        torch.ones(2, 3),
        torch.ones(0, 3),
        2,
        exclude=nothing,
        candidates=nothing,
        allowed=torch.ones(2, 0, dtype=torch.bool),
        item_bias=torch.ones(0),
    )
    assert bool((indices == -1).all())
    assert bool((scores == -torch.inf).all())


@pytest.mark.parametrize("argument", ["exclude", "candidates"])
@pytest.mark.parametrize(
    ("offsets", "indices"),
    [
        ([0, 1, 2], [0, 40]),
        ([0, 1, 2], [0, -1]),
        ([0, 1, 2], [2**40, 0]),
        ([0, 2, 1], [0, 1]),
        ([0, 3, 2], [0, 1]),
        ([1, 1, 2], [0, 1]),
        ([-1, 1, 2], [0, 1]),
        ([0, 1, 3], [0, 1]),
        ([0, 1, 1], [0, 1]),
        ([0, 2**40, 2], [0, 1]),
    ],
)
@pytest.mark.parametrize(("k", "backend"), [(3, "cpu"), (1500, "cpu"), (3, "reference")])
def test_values_out_of_range(argument, offsets, indices, k, backend):
    """In the kernel, the composition (k past the kernel's lists) and the reference alike."""
    user, item = inputs((2, 40, 3), torch.float32)
    lists = {argument: (torch.tensor(offsets), torch.tensor(indices))}
    with fusionops.use_backend(backend), pytest.raises(IndexError, match=argument):
        fusion_topk(user, item, k, **lists)


@given(
    users=st.integers(1, 8),
    items=st.integers(1, 200),
    k=st.integers(1, 50),
    exclude=st.booleans(),
    candidates=st.booleans(),
    allowed=st.sampled_from([None, "items", "pairs"]),
    seed=st.integers(0, 1000),
)
def test_any_combination(users, items, k, exclude, candidates, allowed, seed):
    """Whole numbers, so scores are exact and ties abound: equal to the reference entry by entry."""
    generator = torch.Generator().manual_seed(seed)
    user = torch.randint(-2, 3, (users, 3), generator=generator).float()
    item = torch.randint(-2, 3, (items, 3), generator=generator).float()
    lists = {
        "exclude": random_lists(users, items, 30, seed) if exclude else None,
        "candidates": random_lists(users, items, 60, seed + 1) if candidates else None,
        "allowed": {
            None: None,
            "items": normal(items, seed=seed) > -1,
            "pairs": normal(users, items, seed=seed) > -1,
        }[allowed],
    }
    found = fusion_topk(user, item, k, normalization="none", **lists)
    expected = reference.fusion_topk(user, item, k, normalization="none", **lists)
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)
