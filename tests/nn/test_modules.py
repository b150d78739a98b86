"""The habits of an ``nn.Module``, held by every module."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from nn_support import CASES, MASKED, assert_close, call, with_gradients
from support import normal
from torch.utils.checkpoint import checkpoint

import fusionops
from fusionops.nn import AttentionFusion, DeepFusion

DROPPING = {
    "self": lambda: AttentionFusion(8, 2, dropout=0.5),
    "pooled": lambda: AttentionFusion(8, 2, num_queries=1, dropout=0.5),
    "deep": lambda: DeepFusion(8, 2, dropout=0.5, pooling="mean"),
}

each_case = pytest.mark.parametrize("name", CASES)


def same_state(one, other):
    states = one.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@each_case
def test_device_and_dtype(name):
    module = CASES[name].module(device="meta", dtype=torch.float64)
    assert all(p.is_meta and p.dtype == torch.float64 for p in module.parameters())
    found = call(CASES[name].module(dtype=torch.float64), CASES[name].inputs(5, torch.float64))
    assert all(result.dtype == torch.float64 for result in found)
    half = call(CASES[name].module(dtype=torch.bfloat16), CASES[name].inputs(5, torch.bfloat16))
    wanted = torch.float32 if name.startswith("loss") else torch.bfloat16
    assert all(result.dtype == wanted for result in half)


@each_case
def test_from_the_meta_device(name):
    """Built without memory, given some, then set: what a direct construction gives."""
    module = CASES[name].module(device="meta").to_empty(device="cpu")
    for parameter in module.parameters():
        torch.nn.init.constant_(parameter, torch.nan)
    torch.manual_seed(0)
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
    assert same_state(module, CASES[name].module())
    torch.nn.Sequential(module).half().double()


@each_case
def test_copies_and_files(name):
    case = CASES[name]
    module, inputs = case.module(), case.inputs(5, torch.float32)
    expected = call(module, inputs)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    loaded = case.module(seed=1)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(module), loaded):
        assert same_state(module, other)
        assert not {*module.parameters()} & {*other.parameters()}
        for ours, theirs in zip(call(other, inputs), expected, strict=True):
            assert torch.equal(ours, theirs)


@each_case
def test_representation(name):
    """The line of the module itself says what it was built with."""
    module = CASES[name].module()
    assert repr(module).startswith(f"{type(module).__name__}(")
    assert module.extra_repr() in repr(module)
    assert str(8 if hasattr(module, "dim") and module.dim else "") in module.extra_repr()


@each_case
def test_strided_inputs(name):
    case = CASES[name]
    module, inputs = case.module(), case.inputs(6, torch.float32)
    strided = {}
    for key, value in inputs.items():
        wide = value.new_zeros(*value.shape[:-1], 2 * value.shape[-1])
        wide[..., ::2] = value
        strided[key] = wide[..., ::2]
    assert_close(
        with_gradients(module, strided), with_gradients(module, inputs), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@each_case
def test_what_is_missing_does_not_leak(name, bad):
    """Nothing in a masked place reaches a result or a gradient; nothing present gives zeros."""
    case = CASES[name]
    module, inputs = case.module(), case.inputs(6, torch.float64)
    module.double()
    clean, planted = dict(inputs), dict(inputs)
    masks = [mask for mask in MASKED if mask in inputs]
    for mask in masks:
        missing = ~inputs[mask].unsqueeze(-1)
        clean[MASKED[mask]] = inputs[MASKED[mask]].masked_fill(missing, 0)
        planted[MASKED[mask]] = inputs[MASKED[mask]].masked_fill(missing, bad)
    found = with_gradients(module, planted)
    assert_close(found, with_gradients(module, clean), rtol=0, atol=0)
    assert all(value.isfinite().all() for value in found.values())
    for mask in masks:
        assert not found[f"{MASKED[mask]}.grad"][~inputs[mask]].any()
    if masks:
        assert not found["result0"][-1].any()


@each_case
def test_gradients_by_differences(name):
    case = CASES[name]
    module, inputs = case.module(dtype=torch.float64), case.inputs(4, torch.float64)
    names = [key for key, value in inputs.items() if value.is_floating_point()]
    parameters = dict(module.named_parameters())

    def function(*values):
        given = dict(zip([*names, *parameters], values, strict=True))
        arguments = {**inputs, **{key: given[key] for key in names}}
        return torch.func.functional_call(
            module, {key: given[key] for key in parameters}, kwargs=arguments, args=()
        )

    leaves = [inputs[key].requires_grad_() for key in names]
    # float32 biases are as coarse as they are: the other inputs are float64.
    leaves = [leaf.double().detach().requires_grad_() for leaf in leaves]
    assert torch.autograd.gradcheck(function, (*leaves, *parameters.values()), fast_mode=True)


@each_case
def test_an_empty_batch(name):
    case = CASES[name]
    found = with_gradients(case.module(), case.inputs(0, torch.float32))
    if not name.startswith("loss"):  # the mean over no rows is NaN
        assert all(value.isfinite().all() for value in found.values())


@each_case
def test_autocast(name):
    """In bfloat16, near float32; losses stay float32, and so do the gradients of parameters."""
    case = CASES[name]
    module, inputs = case.module(), case.inputs(6, torch.float32)
    expected = with_gradients(module, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = with_gradients(module, inputs)
    # What a block adds to float32 tokens is float32.
    wanted = torch.float32 if name.startswith("loss") or name == "deep" else torch.bfloat16
    assert found["result0"].dtype == wanted
    for key, value in found.items():
        bound = 0.06 * expected[key].abs().max().clamp_min(0.1).item()
        torch.testing.assert_close(value.float(), expected[key], rtol=0.06, atol=bound)


@pytest.mark.parametrize("name", DROPPING)
def test_dropout_follows_the_generator(name):
    module, tokens = DROPPING[name](), normal(6, 3, 8)
    torch.manual_seed(3)
    first, second = module(tokens), module(tokens)
    torch.manual_seed(3)
    assert torch.equal(module(tokens), first)
    assert not torch.equal(first, second)
    module.eval()
    assert torch.equal(module(tokens), module(tokens))


@pytest.mark.parametrize("name", DROPPING)
def test_dropout_under_activation_checkpointing(name):
    module, tokens, found = DROPPING[name](), normal(6, 3, 8), []
    for run in (module, lambda x: checkpoint(module, x, use_reentrant=False)):
        torch.manual_seed(3)
        leaf = tokens.clone().requires_grad_()
        result = run(leaf)
        torch.randn(5)  # what else a model draws before the backward
        found.append(torch.autograd.grad(result.square().sum(), [leaf, *module.parameters()]))
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


def test_lazily_reachable():
    assert fusionops.nn.__all__ == sorted(fusionops.nn.__all__)
    assert {type(case.module()).__name__ for case in CASES.values()} == {*fusionops.nn.__all__}
