"""opcheck, torch.compile with dynamic shapes, and autocast (rule 10)."""

from __future__ import annotations

import pytest
import torch
from support import (
    NORMALIZATIONS,
    OPERATORS,
    assert_bits,
    inputs,
    normal,
    random_lists,
    scores_of,
)
from torch._dynamo.testing import CompileCounterWithBackend

import fusionops
from fusionops import fusion_matrix, fusion_recommend, fusion_topk
from fusionops.ops import _library


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def leaf(*shape, dtype=torch.float32, seed=0, wants=True):
    return normal(*shape, dtype=dtype, seed=seed).requires_grad_(wants)


def topk_arguments(lists):
    user, item = leaf(5, 3), leaf(40, 3, seed=1)
    scales = leaf(5, seed=2), leaf(40, seed=3)
    if not lists:
        return user, item, 7, *scales, *[None] * 6
    exclude, candidates = random_lists(5, 40, 9, seed=1), random_lists(5, 40, 30, seed=2)
    allowed = normal(40, seed=3) > -1
    return user, item, 7, *scales, leaf(40, seed=4), *exclude, allowed, *candidates


SAMPLES = {
    "inverse_norm": [
        lambda: (leaf(1, 7, 3), 0.5),
        lambda: (leaf(2, 7, 3, dtype=torch.float64), 0.0),
        lambda: (leaf(1, 7, 3, dtype=torch.bfloat16), 0.0),
    ],
    "fusion_matrix": [
        lambda: (leaf(1, 5, 3), leaf(1, 7, 3, seed=1), None, None, None),
        lambda: (leaf(2, 5, 3), leaf(2, 7, 3, seed=1), leaf(2, 5), leaf(2, 7), None),
        lambda: (
            leaf(1, 5, 3, dtype=torch.bfloat16),
            leaf(1, 7, 3, dtype=torch.bfloat16, seed=1),
            None,
            leaf(1, 7, seed=2),
            torch.float32,
        ),
    ],
    "fusion_contract": [
        lambda: (leaf(1, 5, 3), leaf(1, 5, 7, seed=1), None, None),
        lambda: (leaf(2, 5, 3), leaf(2, 5, 7, seed=1), leaf(2, 5, seed=2), None),
        lambda: (
            leaf(1, 5, 3, dtype=torch.bfloat16),
            leaf(1, 5, 7, dtype=torch.bfloat16, seed=1),
            None,
            torch.float32,
        ),
    ],
    "fusion_topk": [lambda: topk_arguments(False), lambda: topk_arguments(True)],
    "fusion_topk_backward": [
        lambda: (
            normal(5, 4),
            torch.randint(-1, 9, (5, 4), generator=torch.Generator().manual_seed(0)),
            normal(5, 3),
            normal(9, 3, seed=1),
            normal(5, seed=2),
            normal(9, seed=3),
        ),
        lambda: (
            normal(2, 1),
            torch.tensor([[1], [-1]]),
            normal(2, 3),
            normal(9, 3, seed=1),
            None,
            None,
        ),
    ],
    "symmetric_eigen": [
        lambda: (torch.cov(normal(6, 20)),),
        lambda: (torch.stack([torch.cov(normal(4, 9, seed=s)) for s in (0, 1)]),),
    ],
}


@pytest.mark.parametrize(
    ("operator", "sample"),
    [(operator, number) for operator, list_ in SAMPLES.items() for number in range(len(list_))],
)
def test_opcheck(operator, sample):
    overload = getattr(torch.ops.fusionops, operator).default
    torch.library.opcheck(overload, SAMPLES[operator][sample]())


def forward_and_backward(function, sides):
    leaves = [side.detach().requires_grad_() for side in sides]
    result = function(*leaves)
    grad = normal(*result.shape, dtype=result.dtype, seed=9)
    return [result.detach(), *torch.autograd.grad(result, leaves, grad, allow_unused=True)]


def sides(shape, dtype=torch.float32):
    users, items, features, columns = shape
    user, item = inputs((users, items, features), dtype)
    return user, item, normal(items, columns, dtype=dtype, seed=3)


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_compile_with_dynamic_shapes(operator, normalization):
    """One graph, forward and backward, serves every shape."""

    def function(*sides):
        return scores_of(operator, *sides, normalization=normalization)

    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=counter)
    counts = []
    for shape in ((30, 33, 10, 11), (19, 40, 5, 7), (22, 61, 8, 3)):
        assert_same(
            forward_and_backward(compiled, sides(shape)),
            forward_and_backward(function, sides(shape)),
        )
        counts.append(counter.frame_count)
    assert counts[1:] == counts[:1] * 2


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_compile_without_gradients(operator, normalization):
    """Serving: nothing requires a gradient, with and without ``no_grad``."""

    def function(*sides):
        return scores_of(operator, *sides, normalization=normalization)

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for shape in ((9, 40, 5, 7), (1, 61, 8, 11)):
        expected = function(*sides(shape))
        torch.testing.assert_close(compiled(*sides(shape)), expected, rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            wanting = [side.requires_grad_() for side in sides(shape)]
            found = compiled(*wanting)
            assert not found.requires_grad
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("operator", OPERATORS)
def test_compile_other_dtypes(operator, dtype):
    def function(*sides):
        return scores_of(operator, *sides, normalization="cosine", eps=0.1)

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    assert_same(
        forward_and_backward(compiled, sides((9, 40, 5, 7), dtype)),
        forward_and_backward(function, sides((9, 40, 5, 7), dtype)),
    )


@pytest.mark.parametrize("wanting", [False, True])
def test_compile_of_topk_with_lists(wanting):
    def function(user, item, bias, exclude, candidates, allowed):
        return fusion_topk(
            user, item, 6, item_bias=bias, exclude=exclude, candidates=candidates, allowed=allowed
        )

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for users, items in ((5, 40), (8, 77)):
        arguments = (
            *(side.requires_grad_(wanting) for side in inputs((users, items, 4), torch.float32)),
            normal(items),
            random_lists(users, items, 9, seed=1),
            random_lists(users, items, 30, seed=2),
            normal(users, items, seed=5) > -1,
        )
        for ours, theirs in zip(compiled(*arguments), function(*arguments), strict=True):
            assert_bits(ours, theirs)
    bad = torch.tensor([0, 1, *[1] * (users - 1)]), torch.tensor([items])
    with pytest.raises(IndexError):
        compiled(*arguments[:3], bad, *arguments[4:])


@pytest.mark.parametrize("jagged", [False, True])
def test_compile_where_one_tensor_stands_in_two_places(jagged):
    """Two lists by the same offsets, and one list as both."""

    def function(user, item, offsets, indices, others):
        lists = [(offsets, indices), (offsets, others), (offsets, indices)]
        if jagged:
            lists = [torch.nested.nested_tensor_from_jagged(part, offsets) for _, part in lists]
        return (
            *fusion_topk(user, item, 6, exclude=lists[0], candidates=lists[1]),
            *fusion_topk(user, item, 6, exclude=lists[0], candidates=lists[2]),
        )

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    user, item = (side.requires_grad_() for side in inputs((5, 40, 4), torch.float32))
    offsets, indices = random_lists(5, 40, 30, seed=1)
    arguments = user, item, offsets, indices, (indices + 7) % 40
    for ours, theirs in zip(compiled(*arguments), function(*arguments), strict=True):
        assert_bits(ours, theirs)


def test_compile_with_inductor():
    def function(user, item, values):
        return (
            fusion_matrix(user.sin(), item, normalization="matrix").sum()
            + fusion_recommend(user, item * 2, values).sum()
            + fusion_topk(user, item, 3)[0].exp().sum()
        ).reshape(1)

    compiled = torch.compile(function, fullgraph=True, dynamic=True)
    for shape in ((9, 40, 5, 7), (12, 61, 8, 3)):
        assert_same(
            forward_and_backward(compiled, sides(shape)),
            forward_and_backward(function, sides(shape)),
        )


def test_compile_of_bad_arguments_names_them():
    compiled = torch.compile(fusion_matrix, fullgraph=True, dynamic=True, backend="aot_eager")
    with pytest.raises(Exception, match="item: expected"):
        compiled(torch.ones(3, 4), torch.ones(3, 5))


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_use_backend_inside_a_compiled_function(name):
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph.forward

    def function(user, item):
        with fusionops.use_backend(name):
            return fusion_matrix(user, item) + 1

    user, item = inputs((5, 9, 4), torch.float32)
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=keep)
    torch.testing.assert_close(compiled(user, item), function(user, item))
    assert len(graphs) == 1
    assert ("fusionops" in str(graphs[0].graph)) == (name == "cpu")


@pytest.mark.parametrize("operator", OPERATORS)
def test_compile_over_func_grad_is_refused_or_right(operator):
    """In PyTorch 2.13 it returned zeros."""
    user, item, values = sides((9, 40, 5, 7))

    def loss(item):
        return scores_of(operator, user, item, values).square().sum()

    expected = torch.func.grad(loss)(item)
    assert expected.any()
    compiled = torch.compile(torch.func.grad(loss), backend="aot_eager")
    try:
        found = compiled(item)
    except Exception as error:
        assert "grad" in str(error)  # noqa: PT017
    else:
        torch.testing.assert_close(found, expected)


def test_export():
    class Model(torch.nn.Module):
        def forward(self, user, item):
            return fusion_topk(user, item, 3, normalization="cosine")

    user, item = inputs((5, 9, 4), torch.float32)
    users = torch.export.Dim("users", min=2, max=1000)
    program = torch.export.export(
        Model(), (user, item), dynamic_shapes={"user": {0: users}, "item": None}
    )
    other = normal(11, 4, seed=8)
    for ours, theirs in zip(
        program.module()(other, item),
        fusion_topk(other, item, 3, normalization="cosine"),
        strict=True,
    ):
        assert_bits(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_autocast_casts_user_and_item(normalization, dtype):
    user, item = inputs((7, 50, 9), torch.float32)
    halves = user.to(dtype), item.to(dtype)
    matrix = fusion_matrix(*halves, normalization=normalization)
    scores, indices = fusion_topk(*halves, 5, normalization=normalization)
    with torch.autocast("cpu", dtype=dtype):
        assert_bits(fusion_matrix(user, item, normalization=normalization), matrix)
        assert_bits(fusion_matrix(halves[0], item, normalization=normalization), matrix)
        found = fusion_topk(user, item, 5, normalization=normalization)
    assert_bits(found[0], scores)
    assert_bits(found[1], indices)


def test_autocast_leaves_the_bias():
    """A bias that bfloat16 would round to another order."""
    user, item = torch.zeros(2, 3), torch.zeros(4, 3)
    bias = 100 + torch.tensor([0.0, 0.001, 0.003, 0.002])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores, indices = fusion_topk(user, item, 4, item_bias=bias)
    assert indices.tolist() == [[2, 3, 1, 0]] * 2
    assert_bits(scores, bias.sort(descending=True).values.expand(2, 4))


def test_autocast_of_recommend_works_with_float32_values():
    user, item, values = sides((7, 50, 9, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fusion_recommend(user, item, values)
    expected = fusion_matrix(user, item) @ values
    assert float((found - expected).norm() / expected.norm()) < 0.01


@pytest.mark.parametrize("operator", OPERATORS)
def test_autocast_gives_gradients_in_the_dtype_of_the_leaves(operator):
    leaves = [side.requires_grad_() for side in sides((7, 50, 9, 4))]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = scores_of(operator, *leaves)
    found = torch.autograd.grad(result.float().sum(), leaves[:2])
    # By the pairs that were chosen, as rounding may choose others.
    expected = torch.autograd.grad(scores_of(operator, *leaves).sum(), leaves[:2])
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - theirs).norm() / theirs.norm()) < 0.02


def test_autocast_leaves_float64_as_matmul_does():
    user, item = inputs((7, 50, 9), torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (user @ item.T).dtype == torch.float64
        assert_bits(fusion_matrix(user, item), fusion_matrix(user, item))
        assert fusion_matrix(user, item).dtype == torch.float64
        assert fusion_topk(user, item, 3)[0].dtype == torch.float64


def test_autocast_in_a_compiled_function():
    user, item = inputs((7, 50, 9), torch.float32)

    def function(user, item):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return fusion_matrix(user, item)

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    assert_bits(compiled(user, item), fusion_matrix(user.bfloat16(), item.bfloat16()))


@pytest.mark.parametrize("operator", OPERATORS)
def test_meta_tensors_have_the_shape_and_dtype(operator):
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        real = sides((7, 50, 9, 4), dtype)
        expected = scores_of(operator, *real)
        found = scores_of(operator, *[side.to("meta") for side in real])
        assert found.device.type == "meta"
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)


def test_compiled_code_sees_whether_tf32_is_allowed():
    """Who may round is chosen while tracing: the setting is guarded on."""
    compiled = torch.compile(lambda x: x + _library._tf32(), fullgraph=True, backend="eager")
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    try:
        for precision, allowed in (("ieee", 0), ("tf32", 1), ("ieee", 0)):
            products.fp32_precision = precision
            assert compiled(torch.zeros(1)) == allowed
    finally:
        products.fp32_precision = before
    torch._dynamo.reset()
