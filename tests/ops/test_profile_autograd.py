"""Gradients of what fuses profiles: finite differences, double backward, torch.func."""

from __future__ import annotations

import itertools

import pytest
import torch
from profile_support import CAST, Case, cases, cotangents, gradients
from support import normal

from fusionops import attention_fusion, history_fusion, weighted_fusion

CASES = cases(batch=4, rows=3, tokens=4, features=2, table=5)
TWO = [case for case in CASES if len(case(**case.leaves())) == 2]


def loss_of(results):
    """A number in which every result has a part of its own."""
    return sum((1 + number) * result.square().sum() for number, result in enumerate(results))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradcheck(case):
    leaves = [leaf.requires_grad_() for leaf in case.leaves().values()]

    def function(*leaves):
        return case(**dict(zip(case.names, leaves, strict=True)))

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_double_backward_raises_or_is_right(case):
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves().items()}
    wanted = list(leaves.values())

    def second(function):
        loss = loss_of(function(**leaves))
        first = torch.autograd.grad(loss, wanted, create_graph=True)
        return torch.autograd.grad(sum(grad.square().sum() for grad in first), wanted)

    expected = second(case.expected)
    assert any(grad.any() for grad in expected)
    try:
        found = second(case)
    except (RuntimeError, NotImplementedError) as error:
        assert "once, not twice" in str(error)  # noqa: PT017
    else:
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_double_backward_by_the_incoming_gradient():
    """Linear in it, and still not a silent zero."""
    leaves = [normal(3, 4, 2, dtype=torch.float64), normal(4, dtype=torch.float64, seed=1)]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    grad = normal(3, 2, dtype=torch.float64, seed=2).requires_grad_()
    first = torch.autograd.grad(weighted_fusion(*leaves), leaves, grad, create_graph=True)
    try:
        found = torch.autograd.grad(first[0].square().sum(), grad)[0]
    except (RuntimeError, NotImplementedError) as error:
        assert "once, not twice" in str(error)  # noqa: PT017
    else:
        torch.testing.assert_close(found, 2 * grad * leaves[1].softmax(0).square().sum())


def backward(case, leaves):
    results = case(**leaves)
    pairs = [
        (result, grad)
        for result, grad in zip(results, cotangents(results), strict=True)
        if result.requires_grad
    ]
    if pairs:
        torch.autograd.backward(*zip(*pairs, strict=True))
    return bool(pairs)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_partial_gradients(case):
    """Every subset of the inputs that may want one gets the gradient it gets among all."""
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves().items()}
    backward(case, leaves)
    for wanted in itertools.product([False, True], repeat=len(leaves)):
        some = {
            name: leaf.detach().requires_grad_(want)
            for (name, leaf), want in zip(leaves.items(), wanted, strict=True)
        }
        assert backward(case, some) == any(wanted)
        for (name, leaf), want in zip(some.items(), wanted, strict=True):
            if want:
                torch.testing.assert_close(leaf.grad, leaves[name].grad, rtol=1e-12, atol=1e-12)
            else:
                assert leaf.grad is None


@pytest.mark.parametrize("case", TWO, ids=str)
def test_one_of_two_results_is_used(case):
    """What arrives at the other is nothing, or zeros."""
    leaves = case.leaves()
    for number in (0, 1):

        def one(number=number, **leaves):
            return (case(**leaves)[number],)

        def truth(number=number, **leaves):
            return (case.expected(**leaves)[number],)

        grads = cotangents(one(**leaves))
        expected = gradients(truth, leaves, grads)
        for name, grad in gradients(one, leaves, grads).items():
            torch.testing.assert_close(grad, expected[name], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_graph_without_grad_mode(case, mode):
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves().items()}
    expected = case(**leaves)
    assert all(result.grad_fn is not None for result in expected)
    with mode():
        found = case(**leaves)
    for ours, theirs in zip(found, expected, strict=True):
        assert not ours.requires_grad
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_backward_twice_on_a_retained_graph(case):
    """What is saved for the backward is not written to."""
    leaves = [leaf.requires_grad_() for leaf in case.leaves().values()]
    loss = loss_of(case(**dict(zip(case.names, leaves, strict=True))))
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    for ours, theirs in zip(torch.autograd.grad(loss, leaves), first, strict=True):
        assert torch.equal(ours, theirs)


def test_a_changed_input_is_noticed():
    """As for every operator: what the backward reads may not be written to before it."""
    values, logits = normal(4, 3, 2), normal(4, 3, seed=1).requires_grad_()
    query = normal(1, 2).requires_grad_()
    for result in (
        weighted_fusion(values, logits),
        attention_fusion(query, values, values),
        history_fusion(values[:, 0], torch.tensor([0, 4]), query),
    ):
        values.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            result.sum().backward()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_func_grad_equals_autograd(case):
    leaves = case.leaves()

    def loss(*leaves):
        return loss_of(case(**dict(zip(case.names, leaves, strict=True))))

    found = torch.func.grad(loss, argnums=tuple(range(len(leaves))))(*leaves.values())
    wanting = [leaf.requires_grad_() for leaf in leaves.values()]
    expected = torch.autograd.grad(loss(*wanting), wanting)
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.any()
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mapped", ["first", "last", "all"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_vmap_equals_a_loop(case, mapped):
    names = {"first": case.names[:1], "last": case.names[-1:], "all": case.names}[mapped]
    leaves = {
        name: torch.stack([leaf * factor for factor in (1.0, -0.5, 2.0)], 1)
        if name in names
        else leaf
        for name, leaf in case.leaves().items()
    }
    dims = tuple(1 if name in names else None for name in leaves)

    def function(*leaves):
        return case(**dict(zip(case.names, leaves, strict=True)))

    def row(index):
        pairs = zip(leaves.values(), dims, strict=True)
        return [leaf if dim is None else leaf[:, index] for leaf, dim in pairs]

    found = torch.func.vmap(function, in_dims=dims)(*leaves.values())
    loops = [function(*row(index)) for index in range(3)]
    expected = tuple(torch.stack(parts) for parts in zip(*loops, strict=True))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)

    wanted = tuple(range(len(leaves)))
    gradient = torch.func.grad(lambda *leaves: loss_of(function(*leaves)), argnums=wanted)
    found = torch.func.vmap(gradient, in_dims=dims)(*leaves.values())
    loops = [gradient(*row(index)) for index in range(3)]
    expected = tuple(torch.stack(parts) for parts in zip(*loops, strict=True))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_vmap_over_zero_samples(case):
    single = list(case.leaves().values())
    stacked = [leaf.expand(0, *leaf.shape) for leaf in single]

    def function(*leaves):
        return case(**dict(zip(case.names, leaves, strict=True)))

    for found, expected in zip(torch.func.vmap(function)(*stacked), function(*single), strict=True):
        assert found.shape == (0, *expected.shape)
        assert found.dtype == expected.dtype
    gradient = torch.func.grad(lambda *leaves: function(*leaves)[0].sum())  # no square of nothing
    assert torch.func.vmap(gradient)(*stacked).shape == stacked[0].shape


def test_vmap_over_masks():
    values, logits = normal(4, 5, 3), normal(5, seed=1)
    masks = normal(3, 4, 5, seed=2) > -0.3
    found = torch.func.vmap(lambda mask: weighted_fusion(values, logits, mask))(masks)
    expected = torch.stack([weighted_fusion(values, logits, mask) for mask in masks])
    torch.testing.assert_close(found, expected)
    found = torch.func.vmap(lambda mask: attention_fusion(values, values, values, mask))(masks)
    expected = torch.stack([attention_fusion(values, values, values, mask) for mask in masks])
    torch.testing.assert_close(found, expected)


def test_vmap_over_ids_offsets_and_seeds():
    table, query = normal(9, 4), normal(3, 4, seed=1)
    ids = torch.tensor([[0, 1, 2, 3, 4], [8, 8, 8, 8, 8], [4, 0, 4, 7, 1]])
    offsets = torch.tensor([[0, 2, 2, 5], [0, 0, 5, 5], [0, 1, 2, 5]])

    def function(ids, offsets):
        return history_fusion(table, offsets, query, ids=ids)

    for dims in ((0, None), (None, 0), (0, 0)):
        some = [
            part if dim == 0 else part[0] for part, dim in zip((ids, offsets), dims, strict=True)
        ]
        found = torch.func.vmap(function, in_dims=dims)(*some)
        for index in range(3):
            row = [part[index] if dim == 0 else part for part, dim in zip(some, dims, strict=True)]
            torch.testing.assert_close(found[index], function(*row))
    tokens, seeds = normal(2, 5, 4), torch.tensor([3, -7, 3])

    def dropped(seed):
        return attention_fusion(tokens, tokens, tokens, dropout_p=0.5, seed=seed)

    found = torch.func.vmap(dropped)(seeds)
    torch.testing.assert_close(found, torch.stack([dropped(seed) for seed in seeds]))


def test_per_sample_gradients():
    """``vmap(grad)`` over single entities, as differential privacy wants them."""
    query = normal(2, 4, dtype=torch.float64)
    tokens, masks = normal(6, 3, 4, dtype=torch.float64, seed=1), normal(6, 3, seed=2) > -0.5

    def loss(query, tokens, mask):
        tokens = tokens.unsqueeze(0)
        return attention_fusion(query, tokens, tokens, mask, num_heads=2).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(query, tokens, masks)
    for index in range(6):
        case = Case(
            "one",
            "attention_fusion",
            {"query": (2, 4), "key": (1, 3, 4), "value": (1, 3, 4)},
            {"num_heads": 2, "mask": masks[index]},
        )
        own = tokens[index : index + 1]
        leaves = {"query": query, "key": own, "value": own}
        grads = [2 * part for part in case.expected(**leaves)]
        truth = gradients(case.expected, leaves, grads)["query"]
        torch.testing.assert_close(found[index], truth)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_jacrev(case):
    """With respect to each of the inputs: vmap over the backward."""
    leaves = case.leaves()
    for name in case.names:

        def function(moved, call, name=name):
            return tuple(call(**{**leaves, name: moved}))

        found = torch.func.jacrev(lambda x: function(x, case))(leaves[name])
        expected = torch.autograd.functional.jacobian(
            lambda x: function(x, case.expected),
            leaves[name],
        )
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_mode_raises(case):
    """For each of the inputs: a silent zero would be the alternative."""
    leaves = case.leaves()
    for name, leaf in leaves.items():

        def function(moved, name=name):
            return case(**{**leaves, name: moved})

        with pytest.raises((RuntimeError, NotImplementedError)):
            torch.func.jvp(function, (leaf,), (torch.ones_like(leaf),))
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(leaf, torch.ones_like(leaf))
            with pytest.raises((RuntimeError, NotImplementedError)):
                function(dual)


def test_cases_stand_for_all_inputs():
    """Of this file: every profile that autocast casts has its gradient looked at."""
    names = {name for case in CASES for name in case.names}
    assert names == {*CAST, "logits", "weights"}
