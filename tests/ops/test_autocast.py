"""Autocast where plain PyTorch serves: user and item are cast, and nothing else (rule 10)."""

from __future__ import annotations

import pytest
import torch
from loss_support import cases
from support import NORMALIZATIONS, OPERATORS, assert_bits, inputs, name_of, normal, scores_of

from fusionops import backend, fusion_contrastive, fusion_matrix

CASES = cases(users=9, items=40, batch=12)
HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(params=["reference", "composition"])
def server(request, monkeypatch):
    monkeypatch.setattr(backend, "serving", lambda *_: request.param)
    return request.param


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("dtype", HALVES, ids=name_of)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_operators(operator, normalization, dtype):
    """The bits of the same call on halves, where G, W and all sums are float32."""
    user, item = inputs((7, 50, 9), torch.float32)
    sides = user, item, normal(50, 4, seed=3)
    expected = scores_of(operator, *[side.to(dtype) for side in sides], normalization=normalization)
    assert expected.any()
    with torch.autocast("cpu", dtype=dtype):
        assert_bits(scores_of(operator, *sides, normalization=normalization), expected)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_losses(case, normalization):
    leaves = case.leaves(torch.float32)
    halves = {
        name: leaf.bfloat16() if name in ("user", "item") else leaf for name, leaf in leaves.items()
    }
    expected = case(normalization=normalization, **halves)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_bits(case(normalization=normalization, **leaves), expected)
    doubles = {name: leaf.double() for name, leaf in halves.items()}
    truth = case.expected(normalization=normalization, **doubles)
    torch.testing.assert_close(expected.double(), truth, rtol=1e-5, atol=1e-5)


def test_in_a_compiled_function(server):
    user, item = inputs((7, 7, 5), torch.float32)

    def function(user, item):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return fusion_matrix(user, item, normalization="matrix"), fusion_contrastive(user, item)

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for found, expected in zip(compiled(user, item), function(user, item), strict=True):
        torch.testing.assert_close(found, expected)
        assert expected.any()
    torch._dynamo.reset()


@pytest.mark.usefixtures("server")
def test_on_a_device_without_autocast():
    user, item = (side.to("meta") for side in inputs((7, 50, 9), torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fusion_matrix(user, item).dtype == torch.float32
