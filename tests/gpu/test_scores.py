"""fusion_matrix and fusion_recommend on the GPU against float64."""

import pytest
import torch
from gpu_support import DEVICE, FLOATS, chosen, servers
from layouts import LAYOUTS
from support import (
    NORMALIZATIONS,
    assert_bits,
    assert_gradients,
    assert_within,
    bound,
    conditioned,
    epsilon,
    inputs,
    moved,
    name_of,
    normal,
)

from fusionops import fusion_matrix, fusion_recommend, reference

SERVERS = servers("fusion_matrix")
# (U, P, D): ones, odd sizes around tiles, whole tiles, D past 256, more users than a grid's row.
SHAPES = [
    (1, 1, 1),
    (7, 31, 1),
    (127, 129, 31),
    (5, 129, 513),
    (3, 9001, 7),
    (256, 384, 64),
    (130, 1000, 128),
]


def check(user, item, **norm):
    """The matrix and its gradients are the float64 ones."""
    leaves = [side.to(DEVICE).requires_grad_() for side in (user, item)]
    found = fusion_matrix(*leaves, **norm)
    assert found.dtype == user.dtype
    truth = reference.fusion_matrix(user.double(), item.double(), **norm)
    assert_within(found.detach().cpu(), truth, bound(user, item, **norm))
    grad = normal(*truth.shape, dtype=user.dtype, seed=5)
    slopes = torch.autograd.grad(found, leaves, grad.to(DEVICE))
    assert_gradients(
        moved(slopes, "cpu"), lambda u, p: reference.fusion_matrix(u, p, **norm), grad, user, item
    )


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_matrix(shape, dtype, server):
    with chosen(server):
        check(*inputs(shape, dtype), normalization="diagonal")


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_normalizations(normalization, dtype, server):
    with chosen(server):
        check(*inputs((65, 130, 24), dtype), normalization=normalization)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_float64_has_the_composition(normalization):
    check(*inputs((17, 40, 9), torch.float64), normalization=normalization)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
def test_batches(dtype, server):
    user, item = normal(3, 2, 33, 40, dtype=dtype), conditioned(3, 2, 65, 40, dtype=dtype)
    with chosen(server):
        check(user, item, normalization="cosine")


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_strides(layout, dtype, server):
    """Of both sides and of the incoming gradient: another order of additions at most."""

    def run(user, item, grad):
        leaves = [side.detach().requires_grad_() for side in (user, item)]
        result = fusion_matrix(*leaves, normalization="cosine")
        return [result.detach(), *torch.autograd.grad(result, leaves, grad)]

    user, item = moved(inputs((65, 130, 40), dtype), DEVICE)
    given = [layout(x) for x in (user, item, normal(65, 130, dtype=dtype, seed=5).to(DEVICE))]
    with chosen(server):
        found, expected = run(*given), run(*(x.contiguous() for x in given))
    for ours, theirs in zip(found, expected, strict=True):
        # Equal rows or columns leave of a gradient only what its terms, about 1, cancel to.
        reach = max(1.0, float(theirs.abs().max()))
        torch.testing.assert_close(
            ours, theirs, rtol=2 * epsilon(dtype), atol=64 * epsilon(torch.float32) * reach
        )


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (5, 3, 0)], ids=name_of)
def test_empty(shape, server):
    with chosen(server):
        check(*inputs(shape, torch.float32), normalization="diagonal")


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
def test_zero_vectors_score_zero(dtype, server):
    user, item = inputs((65, 130, 40), dtype)
    user[3], item[7] = 0, 0
    with chosen(server):
        leaves = [side.to(DEVICE).requires_grad_() for side in (user, item)]
        found = fusion_matrix(*leaves, normalization="cosine")
        slopes = torch.autograd.grad(found.sum(), leaves)
    assert not found[3].any()
    assert not found[:, 7].any()
    assert not slopes[0][3].any()
    assert not slopes[1][7].any()
    assert all(bool(slope.isfinite().all()) for slope in slopes)


@pytest.mark.parametrize("server", SERVERS)
def test_tf32_is_used_only_where_it_is_allowed(server):
    """Entries that TF32 cannot tell apart: 1 and 1 + 2^-12."""
    user, item = torch.ones(64, 64), torch.ones(64, 64)
    user[:, 0] += 2.0**-12
    with chosen(server):
        found = fusion_matrix(user.to(DEVICE), item.to(DEVICE), normalization="none")
    assert_bits(found.cpu(), torch.full((64, 64), 64 + 2.0**-12))


@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_recommend(normalization, dtype):
    user, item = inputs((65, 130, 24), dtype)
    values = normal(130, 17, dtype=dtype, seed=3)
    sides = [side.to(DEVICE).requires_grad_() for side in (user, item, values)]
    found = fusion_recommend(*sides, normalization=normalization)

    def truth(user, item, values):
        return reference.fusion_recommend(user, item, values, normalization=normalization)

    expected = truth(user.double(), item.double(), values.double())
    assert found.dtype == dtype
    expected = expected.detach()
    off = float((found.detach().cpu() - expected).norm() / expected.norm())
    assert off <= epsilon(dtype) + 64 * epsilon(torch.float32)
    grad = normal(65, 17, dtype=dtype, seed=5)
    slopes = torch.autograd.grad(found, sides, grad.to(DEVICE))
    assert_gradients(moved(slopes, "cpu"), truth, grad, user, item, values)
