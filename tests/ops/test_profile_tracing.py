"""What fuses profiles under opcheck, torch.compile and export, and on meta tensors (rule 10)."""

from __future__ import annotations

import pytest
import torch
from profile_support import (
    OPERATORS,
    Case,
    cases,
    cotangents,
    random_ids,
    random_offsets,
)
from support import Recorder, accumulation, assert_bits, name_of, normal
from torch._dynamo.testing import CompileCounterWithBackend

import fusionops
from fusionops import attention_fusion, bidirectional_fusion, history_fusion, weighted_fusion

CASES = cases(batch=5, rows=3, tokens=4, features=6, table=9)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def recorded(case, dtype):
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves(dtype).items()}
    with Recorder() as recorder:
        sum(result.sum() for result in case(**leaves)).backward()
    return [
        (function, arguments)
        for function, arguments in recorder.calls
        if function.__name__.startswith(case.operator)
    ]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_opcheck(case, dtype):
    """The operators under the public function, forward and backward, as it calls them."""
    calls = recorded(case, dtype)
    assert len(calls) >= 2, "nothing native was called forward and backward"
    for function, arguments in calls:
        if "backward" not in function.__name__:
            for argument in arguments:
                if isinstance(argument, torch.Tensor) and argument.is_floating_point():
                    argument.requires_grad_()
        torch.library.opcheck(function, tuple(arguments))


def test_opcheck_of_mmr_rerank():
    with Recorder() as recorder:
        fusionops.mmr_rerank(normal(3, 9), normal(3, 9, 4, seed=1), 5, mask=normal(3, 9) > -1)
        fusionops.mmr_rerank(normal(3, 9).double(), normal(3, 9, 4, seed=1).half(), 12)
    assert len(recorder.calls) >= 2, "nothing native was called"
    for function, arguments in recorder.calls:
        torch.library.opcheck(function, tuple(arguments))


@pytest.mark.parametrize("operator", [*OPERATORS, "mmr_rerank"])
def test_every_native_operator_is_called(operator):
    """What is registered under an operator's name is what its public function calls."""
    registered = {
        name.removeprefix("fusionops::").split(".")[0]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith(f"fusionops::{operator}")
    }
    assert registered, "nothing native is registered"
    if operator == "mmr_rerank":
        with Recorder() as recorder:
            fusionops.mmr_rerank(normal(3, 9), normal(3, 9, 4, seed=1), 5)
        calls = recorder.calls
    else:
        calls = [
            call
            for case in CASES
            if case.operator == operator
            for call in recorded(case, torch.float32)
        ]
    assert {function.__name__.split(".")[0] for function, _ in calls} >= registered


def forward_and_backward(function, leaves):
    wanting = [leaf.detach().requires_grad_() for leaf in leaves]
    results = function(*wanting)
    found = torch.autograd.grad(results, wanting, cotangents(results))
    return [*(result.detach() for result in results), *found]


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


# (batch, rows, tokens, features, table): graphs are specialised on sizes that agree, and on 1.
SHAPES = [(7, 3, 5, 62, 13), (9, 4, 6, 70, 15)]
COMPILED = [
    number
    for number, case in enumerate(CASES)
    if case.name
    in (
        *("weighted-mask", "weighted-shared", "self", "cross-masks", "shared", "dropout"),
        *("bidirectional", "bidirectional-values"),
        *("history-attention", "ids-mean", "ids-attention"),
    )
]


@pytest.mark.parametrize("number", COMPILED, ids=[CASES[number].name for number in COMPILED])
def test_compile_with_dynamic_shapes(number):
    """One graph, forward and backward, serves every shape."""

    options = {
        name: value
        for name, value in CASES[number].fixed.items()
        if not isinstance(value, torch.Tensor)
    }
    call, names = getattr(fusionops, CASES[number].operator), CASES[number].names

    def compute(tensors, *leaves):
        given = {**dict(zip(names, leaves, strict=True)), **tensors, **options}
        if "tokens" in given:
            given |= dict.fromkeys(("query", "key", "value"), given.pop("tokens"))
        result = call(**given)
        return result if isinstance(result, tuple) else (result,)

    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(compute, fullgraph=True, dynamic=True, backend=counter)
    counts = []
    for batch, rows, tokens, features, table in SHAPES:
        case = cases(batch, rows, tokens, features, table)[number]
        leaves = list(case.leaves(torch.float32).values())
        tensors = {n: v for n, v in case.fixed.items() if isinstance(v, torch.Tensor)}
        assert_same(
            *(
                forward_and_backward(lambda *s, f=f: f(tensors, *s), leaves)  # noqa: B023
                for f in (compiled, compute)
            )
        )
        counts.append(counter.frame_count)
    assert counts[1] == counts[0]


def everything(values, logits, query, offsets, ids, table):
    """All of them in one graph, beside operations of PyTorch."""
    profile = weighted_fusion(values.sin(), logits)
    fused, weights = attention_fusion(query, values, values * 2, return_weights=True)
    from_item, from_user = bidirectional_fusion(values, fused.exp())
    history = history_fusion(table, offsets, profile, ids=ids)
    return (
        profile + history,
        fused + from_user,
        weights.square(),
        from_item * history.unsqueeze(1),
    )


def arguments_of(batch, tokens, features, dtype=torch.float32):
    offsets = random_offsets(batch, 6)
    return (
        normal(batch, tokens, features, dtype=dtype),
        normal(tokens, dtype=accumulation(dtype), seed=1),
        normal(1, 3, features, dtype=dtype, seed=2),
        offsets,
        random_ids(int(offsets[-1]), 20),
        normal(20, features, dtype=dtype, seed=3),
    )


def run(function, arguments):
    leaves = [part for part in arguments if part.is_floating_point()]

    def call(*leaves):
        values, logits, query, table = leaves
        return function(values, logits, query, *arguments[3:5], table)

    return forward_and_backward(call, leaves)


def test_compile_of_halves_and_without_gradients():
    compiled = torch.compile(everything, fullgraph=True, dynamic=True, backend="aot_eager")
    arguments = arguments_of(5, 4, 6, torch.float16)
    for ours, theirs in zip(run(compiled, arguments), run(everything, arguments), strict=True):
        torch.testing.assert_close(ours, theirs)
    expected = everything(*arguments)
    for ours, theirs in zip(compiled(*arguments), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        wanting = [x.requires_grad_() if x.is_floating_point() else x for x in arguments]
        assert not any(result.requires_grad for result in compiled(*wanting))


def test_compile_with_inductor():
    compiled = torch.compile(everything, fullgraph=True, dynamic=True)
    for sizes in ((7, 4, 6), (9, 5, 8)):
        arguments = arguments_of(*sizes)
        for ours, theirs in zip(run(compiled, arguments), run(everything, arguments), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_compile_of_a_number_for_the_scale():
    def function(tokens, scale):
        return attention_fusion(tokens, tokens, tokens, scale=scale)

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    tokens = normal(5, 4, 6)
    for scale in (1.0, 0.25, 20.0):
        torch.testing.assert_close(compiled(tokens, scale), function(tokens, scale))


def test_compile_of_jagged_histories():
    def function(values, offsets, query):
        nested = torch.nested.nested_tensor_from_jagged(values, offsets)
        return history_fusion(nested, query=query) + history_fusion(nested)

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch in (5, 8):
        offsets = random_offsets(batch, 6)
        arguments = normal(int(offsets[-1]), 4), offsets, normal(batch, 4, seed=1)
        torch.testing.assert_close(compiled(*arguments), function(*arguments))


def test_compile_keeps_the_errors():
    compiled = torch.compile(history_fusion, fullgraph=True, dynamic=True, backend="aot_eager")
    table, offsets = normal(7, 4), torch.tensor([0, 2, 5])
    with pytest.raises(IndexError, match="ids"):
        compiled(table, offsets, ids=torch.tensor([0, 1, 7, 2, 3]))
    with pytest.raises(IndexError, match="offsets"):
        compiled(table, offsets, ids=torch.tensor([0, 1, 6, 2]))
    compiled = torch.compile(weighted_fusion, fullgraph=True, dynamic=True, backend="aot_eager")
    with pytest.raises(Exception, match="logits: expected"):
        compiled(normal(3, 4, 5), normal(5))


@pytest.mark.parametrize("operator", OPERATORS)
def test_compile_over_func_grad_is_refused_or_right(operator):
    """In PyTorch 2.13 it returned zeros."""
    case = next(case for case in CASES if case.operator == operator)
    leaves = case.leaves(torch.float32)
    name = case.names[0]

    def loss(moved):
        return sum(result.square().sum() for result in case(**{**leaves, name: moved}))

    expected = torch.func.grad(loss)(leaves[name])
    assert expected.any()
    compiled = torch.compile(torch.func.grad(loss), backend="aot_eager")
    try:
        found = compiled(leaves[name])
    except Exception as error:
        assert "grad" in str(error)  # noqa: PT017
    else:
        torch.testing.assert_close(found, expected)


def test_export():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.query = torch.nn.Parameter(normal(2, 6, seed=8))
            self.logits = torch.nn.Parameter(normal(4, seed=9))

        def forward(self, tokens, mask):
            pooled = attention_fusion(self.query, tokens, tokens, mask, num_heads=2)
            sides = bidirectional_fusion(tokens, pooled, user_mask=mask)
            return weighted_fusion(tokens, self.logits, mask) + sides[1].sum(1)

    model, batch = Model(), torch.export.Dim("batch", min=2, max=1000)
    program = torch.export.export(
        model,
        (normal(5, 4, 6), normal(5, 4) > -1),
        dynamic_shapes={"tokens": {0: batch}, "mask": {0: batch}},
    )
    other = normal(11, 4, 6, seed=3), normal(11, 4, seed=4) > -1
    torch.testing.assert_close(program.module()(*other), model(*other))


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_use_backend_inside_a_compiled_function(name):
    values, logits = normal(5, 4, 6), normal(4, seed=1)

    def function(values, logits):
        with fusionops.use_backend(name):
            return weighted_fusion(values, logits)

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    torch.testing.assert_close(compiled(values, logits), function(values, logits))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_meta_tensors_have_the_shape_and_dtype(case, dtype):
    leaves = case.leaves(dtype)
    fixed = {
        name: value.to("meta") if isinstance(value, torch.Tensor) else value
        for name, value in case.fixed.items()
    }
    meta = Case("meta", case.operator, case.shapes, fixed)
    found = meta(**{name: leaf.to("meta") for name, leaf in leaves.items()})
    for ours, theirs in zip(found, case(**leaves), strict=True):
        assert ours.device.type == "meta"
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_subclass_of_tensors_is_served(operator):
    """A parameter, which is one, gives the bits of its data."""
    case = next(case for case in CASES if case.operator == operator)
    leaves = case.leaves(torch.float32)
    parameters = {name: torch.nn.Parameter(leaf) for name, leaf in leaves.items()}
    for ours, theirs in zip(case(**parameters), case(**leaves), strict=True):
        assert_bits(ours.detach(), theirs)
