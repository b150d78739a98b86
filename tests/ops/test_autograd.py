"""Gradients by finite differences, double backward, functorch and forward mode (rules 9 and 10)."""

from __future__ import annotations

import itertools

import pytest
import torch
from support import NORMALIZATIONS, OPERATORS, conditioned, name_of, normal, scores_of

from fusionops import fusion_matrix, fusion_recommend, fusion_topk, reference

NORMS = [
    {"normalization": "diagonal"},
    {"normalization": "diagonal", "eps": 0.2},
    {"normalization": "cosine"},
    {"normalization": "cosine", "eps": 0.2},
    {"normalization": "none"},
    {"normalization": "matrix"},
    {"normalization": "matrix", "power": 1.0},
    {"normalization": "matrix", "power": 0.3, "ridge": 0.5},
    {"normalization": "matrix", "power": -0.5},
    {"normalization": "matrix", "power": 0.0},
]
COMPOSED = [norm for norm in NORMS if norm["normalization"] != "matrix"]


def leaves(items, features=4, users=3, columns=2):
    return [
        side.requires_grad_()
        for side in (
            normal(users, features, dtype=torch.float64),
            conditioned(items, features, dtype=torch.float64, seed=1),
            normal(items, columns, dtype=torch.float64, seed=2),
        )
    ]


@pytest.mark.parametrize("norm", NORMS, ids=str)
@pytest.mark.parametrize("items", [6, 4])
def test_gradcheck_fusion_matrix(items, norm):
    user, item, _ = leaves(items)
    assert torch.autograd.gradcheck(lambda u, i: fusion_matrix(u, i, **norm), (user, item))


@pytest.mark.parametrize("norm", NORMS, ids=str)
@pytest.mark.parametrize("users", [1, 9])
def test_gradcheck_fusion_recommend(users, norm):
    sides = leaves(6, users=users, columns=6)
    assert torch.autograd.gradcheck(lambda *s: fusion_recommend(*s, **norm), sides)


@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_gradcheck_fusion_topk(norm):
    user, item, _ = leaves(9)
    bias = normal(9, dtype=torch.float64, seed=6).requires_grad_()
    exclude = torch.tensor([0, 2, 2, 3]), torch.tensor([0, 5, 8])
    chosen = fusion_topk(user, item, 4, item_bias=bias, exclude=exclude, **norm)[1]

    def function(user, item, bias):
        scores, indices = fusion_topk(user, item, 4, item_bias=bias, exclude=exclude, **norm)
        assert torch.equal(indices, chosen)  # no step crosses a tie
        return scores

    assert torch.autograd.gradcheck(function, (user, item, bias))


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm not in COMPOSED], ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
def test_gradcheck_of_deficient_rank(operator, norm):
    """P < D: steps within the row space keep the rank, as ``item = core @ basis`` does."""
    basis = conditioned(3, 7, dtype=torch.float64, seed=5)
    user = normal(4, 7, dtype=torch.float64).requires_grad_()
    core = conditioned(3, 3, dtype=torch.float64, seed=1).requires_grad_()
    more = normal(5, 3, dtype=torch.float64, seed=4)  # P = 5 items in 3 of 7 dimensions
    values = normal(5, 2, dtype=torch.float64, seed=2).requires_grad_()

    def function(user, core, values):
        return scores_of(operator, user, more @ core @ basis, values, k=5, **norm)

    assert torch.autograd.gradcheck(function, (user, core, values), check_undefined_grad=False)


@pytest.mark.parametrize("power", [0.5, 1.0, 0.3])
@pytest.mark.parametrize("ridge", [0.0, 0.7])
def test_gradcheck_where_the_row_space_turns(ridge, power):
    """P < D and any step: the rank stays P, the row space moves, the kept-zero part counts."""
    user = normal(4, 7, dtype=torch.float64).requires_grad_()
    item = conditioned(3, 7, dtype=torch.float64, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda u, i: fusion_matrix(u, i, normalization="matrix", power=power, ridge=ridge),
        (user, item),
    )


def test_matrix_gradient_of_equal_and_near_equal_eigenvalues():
    """Where ``(f(a) - f(b)) / (a - b)`` cancels or divides by zero."""
    user = normal(3, 4, dtype=torch.float64).requires_grad_()
    for gap in (0.0, 1e-15, 1e-10, 1e-5):
        item = torch.diag(torch.tensor([1.0, 1.0 + gap, 2.0, 2.0 + gap], dtype=torch.float64))
        item.requires_grad_()
        assert torch.autograd.gradcheck(
            lambda u, i: fusion_matrix(u, i, normalization="matrix"), (user, item)
        )


def test_matrix_loss_of_the_row_space_alone():
    """Rows beyond the rank change nothing: F of items repeated is F of the halves, scaled."""
    user = normal(4, 7, dtype=torch.float64)
    item = conditioned(3, 7, dtype=torch.float64, seed=1)
    single = fusion_matrix(user, item, normalization="matrix")
    twice = fusion_matrix(user, item.repeat(2, 1), normalization="matrix")
    torch.testing.assert_close(twice, torch.cat([single, single], 1) / 2**0.5)
    outside = torch.linalg.svd(item).Vh[3:]
    moved = user + normal(4, 4, dtype=torch.float64) @ outside
    torch.testing.assert_close(fusion_matrix(moved, item, normalization="matrix"), single)


@pytest.mark.parametrize("norm", COMPOSED, ids=str)
def test_gradgradcheck_fusion_matrix(norm):
    user, item, _ = leaves(5, users=2, features=3)
    assert torch.autograd.gradgradcheck(lambda u, i: fusion_matrix(u, i, **norm), (user, item))


@pytest.mark.parametrize("norm", COMPOSED, ids=str)
@pytest.mark.parametrize("users", [1, 5])
def test_gradgradcheck_fusion_recommend(users, norm):
    sides = leaves(4, users=users, features=3, columns=4)
    assert torch.autograd.gradgradcheck(lambda *s: fusion_recommend(*s, **norm), sides)


@pytest.mark.parametrize(
    ("operator", "normalization"),
    [("fusion_matrix", "matrix"), ("fusion_recommend", "matrix")]
    + [("fusion_topk", normalization) for normalization in NORMALIZATIONS],
)
def test_double_backward_elsewhere_raises(operator, normalization):
    sides = leaves(9)
    result = scores_of(operator, *sides, normalization=normalization)
    first = torch.autograd.grad(result.square().sum(), sides[:2], create_graph=True)
    loss = sum(grad.square().sum() for grad in first)
    with pytest.raises((RuntimeError, NotImplementedError), match="once, not twice"):
        torch.autograd.grad(loss, sides[:2])


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_partial_gradients(operator, normalization):
    """Every subset of the inputs that may want one gets the gradient it gets among all."""
    sides = leaves(9)
    used = 3 if operator == "fusion_recommend" else 2
    result = scores_of(operator, *sides, normalization=normalization)
    full = torch.autograd.grad(result.sum(), sides[:used])
    for wanted in itertools.product([False, True], repeat=used):
        some = [
            side.detach().requires_grad_(want)
            for side, want in itertools.zip_longest(sides, wanted, fillvalue=False)
        ]
        result = scores_of(operator, *some, normalization=normalization)
        assert result.requires_grad == any(wanted)
        if any(wanted):
            result.sum().backward()
        for side, want, expected in zip(some, wanted, full, strict=False):
            if want:
                torch.testing.assert_close(side.grad, expected, rtol=1e-12, atol=1e-12)
            else:
                assert side.grad is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_no_graph_without_grad_mode(operator, normalization, mode):
    sides = leaves(9)
    expected = scores_of(operator, *sides, normalization=normalization)
    assert expected.grad_fn is not None
    with mode():
        found = scores_of(operator, *sides, normalization=normalization)
    assert not found.requires_grad
    assert torch.equal(found, expected)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_func_grad_equals_autograd(operator, normalization):
    sides = leaves(9)
    used = (0, 1, 2) if operator == "fusion_recommend" else (0, 1)

    def loss(*sides):
        return scores_of(operator, *sides, normalization=normalization).square().sum()

    found = torch.func.grad(loss, argnums=used)(*[side.detach() for side in sides])
    expected = torch.autograd.grad(loss(*sides), [sides[index] for index in used])
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.any()
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "batched", [(0, 0, 0), (0, None, None), (None, 0, 0), (None, 0, None)], ids=name_of
)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_vmap_equals_a_loop(operator, normalization, batched):
    singles = leaves(9)
    sides = [
        torch.stack([side.detach() * scale for scale in (1.0, -0.5, 2.0)])
        if dim == 0
        else side.detach()
        for side, dim in zip(singles, batched, strict=True)
    ]

    def function(*sides):
        return scores_of(operator, *sides, normalization=normalization)

    def row(index):
        return [side[index] if dim == 0 else side for side, dim in zip(sides, batched, strict=True)]

    found = torch.func.vmap(function, in_dims=batched)(*sides)
    expected = torch.stack([function(*row(index)) for index in range(3)])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)

    gradient = torch.func.grad(lambda *sides: function(*sides).square().sum(), argnums=(0, 1))
    found = torch.func.vmap(gradient, in_dims=batched)(*sides)
    loops = [gradient(*row(index)) for index in range(3)]
    for position in (0, 1):
        expected = torch.stack([loop[position] for loop in loops])
        torch.testing.assert_close(found[position], expected, rtol=1e-11, atol=1e-11)


def test_vmap_of_topk_indices():
    user, item = normal(4, 3, 5), normal(4, 40, 5, seed=1)
    scores, indices = torch.func.vmap(lambda u, i: fusion_topk(u, i, 6))(user, item)
    for index in range(4):
        single = fusion_topk(user[index], item[index], 6)
        assert torch.equal(indices[index], single[1])
        torch.testing.assert_close(scores[index], single[0])


@pytest.mark.parametrize("operator", OPERATORS)
def test_vmap_over_zero_samples(operator):
    """Empty, in the shape and dtype of the others, forward and backward."""
    single = [side.detach().float() for side in leaves(9)]
    sides = [side.expand(0, *side.shape) for side in single]

    def function(*sides):
        return scores_of(operator, *sides)

    found = torch.func.vmap(function)(*sides)
    expected = function(*single)
    assert found.shape == (0, *expected.shape)
    assert found.dtype == expected.dtype
    gradient = torch.func.grad(lambda *sides: function(*sides).sum(), argnums=(0, 1))
    found = torch.func.vmap(gradient, in_dims=(0, None, None))(sides[0], *single[1:])
    assert [part.shape for part in found] == [(0, *side.shape) for side in single[:2]]


def test_vmap_over_bias_and_allowed():
    user, item = normal(4, 5), normal(40, 5, seed=1)
    bias, allowed = normal(3, 40, seed=2), normal(3, 40, seed=3) > 0

    def function(bias, allowed):
        return fusion_topk(user, item, 6, item_bias=bias, allowed=allowed)

    scores, indices = torch.func.vmap(function)(bias, allowed)
    for index in range(3):
        single = function(bias[index], allowed[index])
        assert torch.equal(indices[index], single[1])
        torch.testing.assert_close(scores[index], single[0])


def test_vmap_in_other_dimensions():
    user, item = normal(3, 5, 4), normal(7, 5, seed=1)
    found = torch.func.vmap(fusion_matrix, in_dims=(2, None), out_dims=1)(user, item)
    expected = torch.stack([fusion_matrix(user[..., i], item) for i in range(4)], 1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_jacrev_is_the_reference_jacobian(operator, normalization):
    user, item, values = (side.detach() for side in leaves(6))

    def function(item):
        return scores_of(operator, user, item, values, normalization=normalization)

    if operator == "fusion_topk":
        chosen = fusion_topk(user, item, 5, normalization=normalization)[1]

    def truth(item):
        matrix = reference.fusion_matrix(user, item, normalization=normalization)
        if operator == "fusion_topk":
            return matrix.gather(1, chosen)
        return matrix @ values if operator == "fusion_recommend" else matrix

    expected = torch.autograd.functional.jacobian(truth, item)
    torch.testing.assert_close(torch.func.jacrev(function)(item), expected)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_forward_mode_raises(operator, normalization):
    sides = [side.detach() for side in leaves(9)]

    def function(item):
        return scores_of(operator, sides[0], item, sides[2], normalization=normalization)

    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.func.jvp(function, (sides[1],), (torch.ones_like(sides[1]),))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(sides[1], torch.ones_like(sides[1]))
        with pytest.raises((RuntimeError, NotImplementedError)):
            function(dual)
