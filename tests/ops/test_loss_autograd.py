"""Gradients of the losses: finite differences, double backward, functorch, forward mode."""

from __future__ import annotations

import itertools

import pytest
import torch
from loss_support import cases, cross_entropy, gradients, targets
from support import NORMALIZATIONS, conditioned, normal

from fusionops import fusion_contrastive, fusion_cross_entropy

CASES = cases(users=6, items=7, batch=5)
NORMS = [
    {"normalization": "diagonal"},
    {"normalization": "diagonal", "eps": 0.2},
    {"normalization": "cosine"},
    {"normalization": "cosine", "eps": 0.2},
    {"normalization": "none"},
    {"normalization": "matrix"},
    {"normalization": "matrix", "power": 1.0},
    {"normalization": "matrix", "power": 0.3, "ridge": 0.5},
]


@pytest.mark.parametrize("norm", NORMS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradcheck(case, norm):
    leaves = [leaf.requires_grad_() for leaf in case.leaves(features=3).values()]

    def function(*leaves):
        return case(**dict(zip(case.names, leaves, strict=True)), **norm)

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("ridge", [0.0, 0.7])
@pytest.mark.parametrize("loss", ["cross entropy", "contrastive"])
def test_gradcheck_where_the_row_space_turns(loss, ridge):
    """P < D: the row space moves with the items."""
    user = normal(3, 7, dtype=torch.float64).requires_grad_()
    item = conditioned(3, 7, dtype=torch.float64, seed=1).requires_grad_()

    def function(user, item):
        if loss == "contrastive":
            return fusion_contrastive(user, item, normalization="matrix", ridge=ridge)
        return fusion_cross_entropy(
            user, item, torch.tensor([2, 0, 2]), normalization="matrix", ridge=ridge
        )

    assert torch.autograd.gradcheck(function, (user, item))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_double_backward_raises_or_is_right(case, normalization):
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves().items()}
    wanted = list(leaves.values())

    def second(function):
        result = function(normalization=normalization, **leaves)
        first = torch.autograd.grad(result.square().sum(), wanted, create_graph=True)
        return torch.autograd.grad(sum(grad.square().sum() for grad in first), wanted)

    expected = second(case.expected)
    try:
        found = second(case)
    except (RuntimeError, NotImplementedError) as error:
        assert "once, not twice" in str(error)  # noqa: PT017
    else:
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_partial_gradients(case, normalization):
    """Every subset of the inputs that may want one gets the gradient it gets among all."""
    leaves = case.leaves()
    grad = normal(case.users, dtype=torch.float64, seed=8)

    def backward(result):
        result.backward(grad if result.dim() else grad[0])

    for leaf in leaves.values():
        leaf.requires_grad_()
    backward(case(normalization=normalization, **leaves))
    for wanted in itertools.product([False, True], repeat=len(leaves)):
        some = {
            name: leaf.detach().requires_grad_(want)
            for (name, leaf), want in zip(leaves.items(), wanted, strict=True)
        }
        result = case(normalization=normalization, **some)
        assert result.requires_grad == any(wanted)
        if any(wanted):
            backward(result)
        for (name, leaf), want in zip(some.items(), wanted, strict=True):
            if want:
                torch.testing.assert_close(leaf.grad, leaves[name].grad, rtol=1e-12, atol=1e-12)
            else:
                assert leaf.grad is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_graph_without_grad_mode(case, mode):
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves().items()}
    expected = case(**leaves)
    assert expected.grad_fn is not None
    with mode():
        found = case(**leaves)
    assert not found.requires_grad
    assert torch.equal(found, expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_backward_twice_on_a_retained_graph(case):
    """What is saved for the backward is not written to."""
    leaves = [leaf.requires_grad_() for leaf in case.leaves().values()]
    loss = case(**dict(zip(case.names, leaves, strict=True))).sum()
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    for ours, theirs in zip(torch.autograd.grad(loss, leaves), first, strict=True):
        assert torch.equal(ours, theirs)


def test_a_changed_input_is_noticed():
    """As for every operator: what the backward reads may not be written to before it."""
    user = normal(4, 3).requires_grad_()
    item = normal(9, 3, seed=1)
    loss = fusion_cross_entropy(user, item, targets(4, 9))
    item.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_func_grad_equals_autograd(case, normalization):
    leaves = case.leaves()

    def loss(*leaves):
        named = dict(zip(case.names, leaves, strict=True))
        return case(normalization=normalization, **named).square().sum()

    found = torch.func.grad(loss, argnums=tuple(range(len(leaves))))(*leaves.values())
    wanting = [leaf.requires_grad_() for leaf in leaves.values()]
    expected = torch.autograd.grad(loss(*wanting), wanting)
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.any()
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mapped", [("user",), ("item",), ("user", "item", "scale", "item_bias")])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_vmap_equals_a_loop(case, normalization, mapped):
    singles = case.leaves()
    leaves = {
        name: torch.stack([leaf * factor for factor in (1.0, -0.5, 2.0)])
        if name in mapped
        else leaf
        for name, leaf in singles.items()
    }
    dims = tuple(0 if name in mapped else None for name in leaves)

    def function(*leaves):
        return case(normalization=normalization, **dict(zip(case.names, leaves, strict=True)))

    def row(index):
        pairs = zip(leaves.values(), dims, strict=True)
        return [leaf if dim is None else leaf[index] for leaf, dim in pairs]

    found = torch.func.vmap(function, in_dims=dims)(*leaves.values())
    expected = torch.stack([function(*row(index)) for index in range(3)])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)

    wanted = tuple(range(len(leaves)))
    gradient = torch.func.grad(lambda *leaves: function(*leaves).square().sum(), argnums=wanted)
    found = torch.func.vmap(gradient, in_dims=dims)(*leaves.values())
    loops = [gradient(*row(index)) for index in range(3)]
    for position in wanted:
        expected = torch.stack([loop[position] for loop in loops])
        torch.testing.assert_close(found[position], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_vmap_over_zero_samples(case):
    single = list(case.leaves().values())
    stacked = [leaf.expand(0, *leaf.shape) for leaf in single]

    def function(*leaves):
        return case(**dict(zip(case.names, leaves, strict=True)))

    found = torch.func.vmap(function)(*stacked)
    expected = function(*single)
    assert found.shape == (0, *expected.shape)
    assert found.dtype == expected.dtype
    gradient = torch.func.grad(lambda *leaves: function(*leaves).sum(), argnums=(0, 1))
    for part, leaf in zip(torch.func.vmap(gradient)(*stacked), single[:2], strict=True):
        assert part.shape == (0, *leaf.shape)


def test_vmap_over_targets_and_ids():
    user, item = normal(5, 4), normal(9, 4, seed=1)
    target = torch.stack([targets(5, 9, seed) for seed in range(3)])
    target[1, 2] = -100
    found = torch.func.vmap(lambda t: fusion_cross_entropy(user, item, t))(target)
    expected = torch.stack([fusion_cross_entropy(user, item, t) for t in target])
    torch.testing.assert_close(found, expected)
    ids = torch.tensor([[0, 1, 2, 3, 4], [0, 0, 2, 3, 3], [7, 7, 7, 7, 7]])
    found = torch.func.vmap(lambda i: fusion_contrastive(user, item[:5], ids=i))(ids)
    expected = torch.stack([fusion_contrastive(user, item[:5], ids=i) for i in ids])
    torch.testing.assert_close(found, expected)


def test_per_sample_gradients():
    """``vmap(grad)`` over single users, as differential privacy wants them."""
    user, item = normal(6, 4, dtype=torch.float64), normal(9, 4, dtype=torch.float64, seed=1)
    target = targets(6, 9)

    def loss(item, user, target):
        return fusion_cross_entropy(user.unsqueeze(0), item, target.unsqueeze(0))

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(item, user, target)
    for index in range(6):
        leaves = {"user": user[index : index + 1], "item": item}
        row = target[index : index + 1]
        truth = gradients(lambda row=row, **s: cross_entropy(target=row, **s), leaves, None)
        torch.testing.assert_close(found[index], truth["item"])


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_jacrev_of_the_rows(normalization):
    user, item = normal(5, 4, dtype=torch.float64), conditioned(9, 4, dtype=torch.float64, seed=1)
    options = {"target": targets(5, 9), "normalization": normalization, "reduction": "none"}
    found = torch.func.jacrev(lambda i: fusion_cross_entropy(user, i, **options))(item)
    expected = torch.autograd.functional.jacobian(lambda i: cross_entropy(user, i, **options), item)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_mode_raises(case, normalization):
    """For each of the inputs: a silent zero would be the alternative."""
    leaves = case.leaves()
    for name, leaf in leaves.items():

        def function(moved, name=name):
            return case(normalization=normalization, **{**leaves, name: moved})

        with pytest.raises((RuntimeError, NotImplementedError)):
            torch.func.jvp(function, (leaf,), (torch.ones_like(leaf),))
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(leaf, torch.ones_like(leaf))
            with pytest.raises((RuntimeError, NotImplementedError)):
                function(dual)


def test_gradient_of_a_learned_temperature():
    """``scale`` as ``exp`` of a parameter, clamped, in float32 beside bfloat16 sides."""
    user, item = normal(9, 5).bfloat16(), normal(9, 5, seed=1).bfloat16()
    for temperature, moves in ((1.0, True), (9.0, False)):
        logarithm = torch.tensor(temperature, requires_grad=True)
        scale = logarithm.exp().clamp(max=100)
        fusion_contrastive(user, item, normalization="cosine", scale=scale).backward()
        assert bool(logarithm.grad != 0) == moves
