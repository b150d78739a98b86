"""Autocast casts the profiles as it would for ``torch.matmul``, and nothing else (rule 10)."""

from __future__ import annotations

import pytest
import torch
from profile_support import CAST, cases, cotangents
from support import assert_bits, name_of

from fusionops import backend, history_fusion, weighted_fusion

CASES = cases(batch=5, rows=3, tokens=6, features=8, table=11)
HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(params=["kernels", "composition", "reference"])
def server(request, monkeypatch):
    monkeypatch.setattr(backend, "serving", lambda *_: request.param)
    return request.param


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("dtype", HALVES, ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_casts_the_profiles_alone(case, dtype):
    """The bits of the same call on halves; logits and weights stay what they are."""
    leaves = case.leaves(torch.float32)
    halves = {name: leaf.to(dtype) if name in CAST else leaf for name, leaf in leaves.items()}
    expected = case(**halves)
    with torch.autocast("cpu", dtype=dtype):
        found = case(**leaves)
        mixed = case(**{**leaves, case.names[0]: halves[case.names[0]]})
    for ours, others, theirs in zip(found, mixed, expected, strict=True):
        assert theirs.dtype == dtype
        assert theirs.any()
        assert_bits(ours, theirs)
        assert_bits(others, theirs)


def test_leaves_logits_and_weights():
    """100 and 100.25, which bfloat16 does not tell apart; 1.001, which it does not have."""
    values = torch.tensor([[[0.0], [1.0]]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = weighted_fusion(values, torch.tensor([100.0, 100.25]))
        assert_bits(found, torch.tensor(0.25).sigmoid().bfloat16().reshape(1, 1))
        weights = torch.tensor([1.001, 1.001, -2.0])
        found = history_fusion(torch.ones(3, 1), torch.tensor([0, 3]), weights=weights)
        assert_bits(found, weights.double().sum().bfloat16().reshape(1, 1))


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_in_the_dtype_of_the_leaves(case):
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves(torch.float32).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = case(**leaves)
    grads = cotangents(results)
    found = torch.autograd.grad(results, list(leaves.values()), grads)
    plain = case(**leaves)
    expected = torch.autograd.grad(plain, list(leaves.values()), [grad.float() for grad in grads])
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - theirs).norm() / theirs.norm()) < 0.03


@pytest.mark.parametrize("case", CASES, ids=str)
def test_leaves_float64_as_matmul_does(case):
    leaves = case.leaves(torch.float64)
    expected = case(**leaves)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for ours, theirs in zip(case(**leaves), expected, strict=True):
            assert_bits(ours, theirs)


@pytest.mark.usefixtures("server")
def test_in_a_compiled_function():
    torch._dynamo.reset()
    leaves = CASES[0].leaves(torch.float32)

    def function(values, logits):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return weighted_fusion(values, logits)

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    expected = function(**leaves)
    assert expected.dtype == torch.bfloat16
    torch.testing.assert_close(compiled(**leaves), expected)
    torch._dynamo.reset()


@pytest.mark.usefixtures("server")
def test_on_a_device_without_autocast():
    values = torch.ones(3, 4, 5, device="meta")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert weighted_fusion(values, torch.ones(4, device="meta")).dtype == torch.float32
