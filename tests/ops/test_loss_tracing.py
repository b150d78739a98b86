"""The losses under opcheck, torch.compile, export, autocast and on meta tensors (rule 10)."""

from __future__ import annotations

import pytest
import torch
from loss_support import cases, cross_entropy, targets
from support import (
    NORMALIZATIONS,
    Recorder,
    assert_bits,
    inputs,
    name_of,
    normal,
    random_lists,
)
from torch._dynamo.testing import CompileCounterWithBackend

import fusionops
from fusionops import backend, fusion_contrastive, fusion_cross_entropy

CASES = cases(users=9, items=40, batch=12)
ELSEWHERE = {"inverse_norm", "fusion_matrix", "fusion_contract", "symmetric_eigen"}


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("normalization", "dtype"),
    [("cosine", torch.float32), ("none", torch.float64), ("diagonal", torch.bfloat16)],
    ids=name_of,
)
@pytest.mark.parametrize("case", [CASES[0], CASES[1], CASES[4], CASES[5]], ids=str)
def test_opcheck(case, dtype, normalization):
    """The operators under the public function, forward and backward, as it calls them."""
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves(dtype).items()}
    with Recorder() as recorder:
        case(normalization=normalization, **leaves).sum().backward()
    calls = [
        (function, arguments)
        for function, arguments in recorder.calls
        if function.__name__.split(".")[0] not in ELSEWHERE
    ]
    assert len(calls) >= 2, "nothing native was called forward and backward"
    for function, arguments in calls:
        if "backward" not in function.__name__:
            for argument in arguments:
                if isinstance(argument, torch.Tensor) and argument.is_floating_point():
                    argument.requires_grad_()
        torch.library.opcheck(function, tuple(arguments))


def forward_and_backward(function, leaves):
    wanting = [leaf.detach().requires_grad_() for leaf in leaves]
    result = function(*wanting)
    grad = normal(64, dtype=result.dtype, seed=9)
    grad = grad[: len(result)] if result.dim() else grad[0]
    return [result.detach(), *torch.autograd.grad(result, wanting, grad)]


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("reduction", "normalization"), [("mean", "matrix"), ("none", "cosine"), ("sum", "diagonal")]
)
def test_compile_cross_entropy_with_dynamic_shapes(reduction, normalization):
    """One graph, forward and backward, serves every shape."""

    def function(target, offsets, indices, user, item, scale, bias):
        return fusion_cross_entropy(
            user,
            item,
            target,
            normalization=normalization,
            scale=scale,
            item_bias=bias,
            exclude=(offsets, indices),
            label_smoothing=0.1,
            reduction=reduction,
        )

    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=counter)
    counts = []
    for users, items, features in ((30, 33, 10), (19, 40, 5), (22, 61, 8)):
        target = targets(users, items)
        target[3] = -100
        fixed = target, *random_lists(users, items, 9, seed=users)
        leaves = [
            *inputs((users, items, features), torch.float32),
            torch.tensor(2.0),
            normal(items),
        ]
        assert_same(
            *(
                forward_and_backward(lambda *leaves, call=call: call(*fixed, *leaves), leaves)  # noqa: B023
                for call in (compiled, function)
            )
        )
        counts.append(counter.frame_count)
    assert counts[1:] == counts[:1] * 2


@pytest.mark.parametrize(
    ("with_ids", "normalization"), [(True, "matrix"), (True, "cosine"), (False, "none")]
)
def test_compile_contrastive_with_dynamic_shapes(with_ids, normalization):
    def function(ids, user, item, scale):
        return fusion_contrastive(
            user, item, normalization=normalization, scale=scale, ids=ids if with_ids else None
        )

    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=counter)
    counts = []
    for batch, features in ((30, 10), (19, 5), (44, 8)):
        ids = torch.arange(batch) // 3
        leaves = [*inputs((batch, batch, features), torch.float32), torch.tensor(2.0)]
        assert_same(
            *(
                forward_and_backward(lambda *leaves, call=call: call(ids, *leaves), leaves)  # noqa: B023
                for call in (compiled, function)
            )
        )
        counts.append(counter.frame_count)
    assert counts[1:] == counts[:1] * 2


@pytest.mark.parametrize(
    ("case", "dtype"),
    [(CASES[1], torch.float64), (CASES[4], torch.bfloat16)],
    ids=str,
)
def test_compile_other_dtypes(case, dtype):
    """With and without gradients."""

    def function(*leaves):
        return case(normalization="cosine", eps=0.1, **dict(zip(case.names, leaves, strict=True)))

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    leaves = list(case.leaves(dtype).values())
    assert_same(forward_and_backward(compiled, leaves), forward_and_backward(function, leaves))
    torch.testing.assert_close(compiled(*leaves), function(*leaves), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        found = compiled(*[leaf.requires_grad_() for leaf in leaves])
        assert not found.requires_grad


def test_compile_of_a_float_scale():
    def function(user, item, target, scale):
        return fusion_cross_entropy(user, item, target, scale=scale, normalization="cosine")

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    user, item = inputs((5, 30, 4), torch.float32)
    for scale in (1.0, 0.25, 20.0):
        torch.testing.assert_close(
            compiled(user, item, targets(5, 30), scale), function(user, item, targets(5, 30), scale)
        )


def test_compile_keeps_the_error_of_a_bad_target():
    compiled = torch.compile(
        fusion_cross_entropy, fullgraph=True, dynamic=True, backend="aot_eager"
    )
    user, item = inputs((5, 30, 4), torch.float32)
    with pytest.raises(IndexError):
        compiled(user, item, torch.tensor([0, 1, 30, 2, 3]))
    with pytest.raises(Exception, match="target: expected"):
        compiled(user, item, torch.tensor([0, 1]))


def test_compile_with_inductor():
    target = targets(12, 12)

    def function(user, item, bias):
        losses = fusion_cross_entropy(
            user.sin(), item, target, item_bias=bias.exp(), reduction="none"
        )
        return losses.square().sum() + 2 * fusion_contrastive(user, item * 2, scale=3.0)

    compiled = torch.compile(function, fullgraph=True, dynamic=True)
    leaves = [*inputs((12, 12, 5), torch.float32), normal(12)]
    assert_same(forward_and_backward(compiled, leaves), forward_and_backward(function, leaves))


@pytest.mark.parametrize("case", [CASES[2], CASES[4]], ids=str)
def test_compile_over_func_grad_is_refused_or_right(case):
    """In PyTorch 2.13 it returned zeros."""
    leaves = case.leaves(torch.float32)

    def loss(item):
        return case(**{**leaves, "item": item})

    expected = torch.func.grad(loss)(leaves["item"])
    assert expected.any()
    compiled = torch.compile(torch.func.grad(loss), backend="aot_eager")
    try:
        found = compiled(leaves["item"])
    except Exception as error:
        assert "grad" in str(error)  # noqa: PT017
    else:
        torch.testing.assert_close(found, expected)


def test_export():
    class Model(torch.nn.Module):
        def forward(self, user, item, target):
            return fusion_cross_entropy(user, item, target, normalization="cosine", scale=5.0)

    user, item = inputs((5, 9, 4), torch.float32)
    users = torch.export.Dim("users", min=2, max=1000)
    program = torch.export.export(
        Model(),
        (user, item, targets(5, 9)),
        dynamic_shapes={"user": {0: users}, "item": None, "target": {0: users}},
    )
    other, target = normal(11, 4, seed=8), targets(11, 9)
    torch.testing.assert_close(
        program.module()(other, item, target),
        fusion_cross_entropy(other, item, target, normalization="cosine", scale=5.0),
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=name_of)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("case", [CASES[0], CASES[1], CASES[5]], ids=str)
def test_autocast_casts_user_and_item_alone(case, normalization, dtype):
    """The loss is float32, as is the bias, which half would round."""
    leaves = case.leaves(torch.float32)
    halves = {
        name: leaf.to(dtype) if name in ("user", "item") else leaf for name, leaf in leaves.items()
    }
    expected = case(normalization=normalization, **halves)
    assert expected.dtype == torch.float32
    with torch.autocast("cpu", dtype=dtype):
        assert_bits(case(normalization=normalization, **leaves), expected)
        mixed = {**leaves, "user": halves["user"]}
        assert_bits(case(normalization=normalization, **mixed), expected)


def test_autocast_leaves_scale_and_bias():
    """1.001 and 100.001, which bfloat16 does not have."""
    user, item = torch.ones(1, 1), torch.tensor([[0.0], [1.0]])
    bias = torch.tensor([100.0, 100.001])
    target = torch.tensor([0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for scale in (1.001, torch.tensor(1.001)):
            loss = fusion_cross_entropy(
                user, item, target, normalization="none", scale=scale, item_bias=bias
            )
            expected = cross_entropy(
                user.double(),
                item.double(),
                target,
                normalization="none",
                scale=float(scale),
                item_bias=bias.double(),
            )
            torch.testing.assert_close(loss.double(), expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_autocast_gives_gradients_in_the_dtype_of_the_leaves(case):
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves(torch.float32).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = case(**leaves)
    found = torch.autograd.grad(loss.sum(), list(leaves.values()))
    expected = torch.autograd.grad(case(**leaves).sum(), list(leaves.values()))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - theirs).norm() / theirs.norm()) < 0.03


@pytest.mark.parametrize("case", CASES, ids=str)
def test_autocast_leaves_float64_as_matmul_does(case):
    leaves = case.leaves(torch.float64)
    expected = case(**leaves)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_bits(case(**leaves), expected)


def test_autocast_in_a_compiled_function():
    user, item = inputs((7, 50, 9), torch.float32)

    def function(user, item, target):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return fusion_cross_entropy(user, item, target)

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    target = targets(7, 50)
    assert_bits(
        compiled(user, item, target),
        fusion_cross_entropy(user.bfloat16(), item.bfloat16(), target),
    )


@pytest.mark.parametrize("server", ["kernels", "composition", "reference"])
def test_compile_where_the_targets_are_what_is_excluded(server, monkeypatch):
    monkeypatch.setattr(backend, "serving", lambda *_: server)
    user, item = inputs((7, 50, 9), torch.float32)

    def function(user, item, offsets, target):
        return fusion_cross_entropy(user, item, target, exclude=(offsets, target))

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    arguments = user.requires_grad_(), item, torch.arange(8), targets(7, 50)
    torch.testing.assert_close(compiled(*arguments), function(*arguments))


@pytest.mark.parametrize("name", ["cpu", "reference"])
@pytest.mark.parametrize("case", [CASES[5]], ids=str)
def test_use_backend_inside_a_compiled_function(case, name):
    def function(*leaves):
        with fusionops.use_backend(name):
            return case(**dict(zip(case.names, leaves, strict=True)))

    leaves = list(case.leaves(torch.float32).values())
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*leaves), function(*leaves))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_meta_tensors_have_the_shape_and_dtype(reduction, normalization, dtype):
    user, item = inputs((7, 7, 9), dtype)
    target, bias = targets(7, 7), normal(7)
    lists = random_lists(7, 7, 3)

    def losses(device):
        options = {"normalization": normalization, "scale": torch.tensor(2.0, device=device)}
        sides = user.to(device), item.to(device)
        return (
            fusion_cross_entropy(
                *sides,
                target.to(device),
                item_bias=bias.to(device),
                exclude=tuple(part.to(device) for part in lists),
                label_smoothing=0.1,
                reduction=reduction,
                **options,
            ),
            fusion_contrastive(*sides, ids=target.to(device), **options),
        )

    for found, expected in zip(losses("meta"), losses("cpu"), strict=True):
        assert found.device.type == "meta"
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
