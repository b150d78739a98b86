"""``torch.compile`` in one graph for all shapes, and ``torch.export``."""

from __future__ import annotations

import pytest
import torch
from nn_support import CASES, assert_close, call, with_gradients
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.export import Dim

from fusionops.nn import AttentionFusion, DeepFusion, WeightedFusion

# One form of each module; the others take long to trace and show little more.
FORMS = {
    "matrix",
    "weighted_content",
    "attention_self",
    "attention_pooled",
    "bidirectional",
    "history_learned",
    "deep_attention",
    "loss_cross_entropy",
}
each_case = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in FORMS)) for name in CASES],
)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def clone(inputs):
    return {name: value.clone() for name, value in inputs.items()}


@each_case
def test_compile_with_dynamic_shapes(name):
    """One graph, forward and backward, serves every batch."""
    case = CASES[name]
    module, counter = case.module(), CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=counter)
    counts = []
    for batch in (6, 9):
        inputs = case.inputs(batch, torch.float32)
        found = with_gradients(compiled, inputs)
        found = {key.removeprefix("_orig_mod."): value for key, value in found.items()}
        assert_close(found, with_gradients(module, inputs), rtol=1e-5, atol=1e-6)
        counts.append(counter.frame_count)
    assert counts[1:] == counts[:1]


@pytest.mark.parametrize("name", sorted(FORMS - {"attention_self", "deep_attention"}))
def test_compile_without_gradients_and_masks(name):
    case = CASES[name]
    module = case.module().eval()
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    inputs = case.inputs(6, torch.float32)
    inputs = {key: value for key, value in inputs.items() if "mask" not in key}
    with torch.no_grad():
        for ours, theirs in zip(call(compiled, inputs), call(module, inputs), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_compile_of_what_all_entities_share():
    """A parameter and a mask of constant size beside tokens whose sizes are symbols."""
    module, inputs = WeightedFusion(3), CASES["deep"].inputs(6, torch.float32)
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    mask = torch.tensor([True, False, True])
    expected = module(inputs["tokens"], mask)
    torch.testing.assert_close(compiled(inputs["tokens"], mask), expected)


def test_compile_of_jagged_histories():
    module = CASES["history_learned"].module()
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch in (5, 8):
        inputs = CASES["history_learned"].inputs(batch, torch.float32)
        jagged = torch.nested.nested_tensor_from_jagged(inputs["history"], inputs["offsets"])
        torch.testing.assert_close(compiled(jagged), module(**inputs))


def test_compile_of_dropout():
    """Training drops, serving does not; one seed gives one result."""
    module = AttentionFusion(8, 2, num_queries=1, dropout=0.5)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    tokens = CASES["deep"].inputs(6, torch.float32)["tokens"]
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(compiled(tokens))
    assert torch.equal(*results)
    assert not torch.equal(compiled(tokens), results[0])
    module.eval()
    torch.testing.assert_close(compiled(tokens), module(tokens))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_compile_to_native_code(name):
    case = CASES[name]
    module, inputs = case.module(), case.inputs(6, torch.float32)
    compiled = torch.compile(module, fullgraph=True, dynamic=True)
    found = with_gradients(compiled, inputs)
    found = {key.removeprefix("_orig_mod."): value for key, value in found.items()}
    assert_close(found, with_gradients(module, inputs), rtol=1e-4, atol=1e-5)


def dimensions(inputs):
    """The batch is dynamic, and so is what has a size of its own beside it."""
    found = {}
    for name, value in inputs.items():
        fixed = (name in ("item", "item_bias") and "target" in inputs) or value.dim() == 0
        found[name] = {} if fixed else {0: Dim.AUTO}
    return found


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])
@each_case
def test_export(name, strict):
    """The exported program gives the same for other batches, also once saved and loaded."""
    case = CASES[name]
    module, inputs = case.module().eval(), case.inputs(6, torch.float32)
    program = torch.export.export(
        module, (), clone(inputs), dynamic_shapes=dimensions(inputs), strict=strict
    )
    exported = program.module()
    for batch in (6, 9):
        given = case.inputs(batch, torch.float32)
        for ours, theirs in zip(call(exported, given), call(module, given), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


class Pipeline(nn.Module):
    """Several modules one after the other, with parameters of each."""

    def __init__(self):
        super().__init__()
        self.deep = DeepFusion(8, 2)
        self.pool = AttentionFusion(8, 2, num_queries=1)

    def forward(self, tokens, mask):
        return self.pool(self.deep(tokens, mask), mask)


def test_export_to_a_file(tmp_path):
    module, inputs = Pipeline().eval(), CASES["deep"].inputs(6, torch.float32)
    program = torch.export.export(module, (), inputs, dynamic_shapes=dimensions(inputs))
    torch.export.save(program, tmp_path / "pipeline.pt2")
    loaded = torch.export.load(tmp_path / "pipeline.pt2").module()
    given = CASES["deep"].inputs(9, torch.float32)
    torch.testing.assert_close(loaded(**given), module(**given))
