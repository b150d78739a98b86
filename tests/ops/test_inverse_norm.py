"""The gradient of the inverse row norm from the shortest to the longest rows of float32."""

from __future__ import annotations

import pytest
import torch
from support import name_of, normal

from fusionops import backend, fusion_cross_entropy, reference
from fusionops.ops.inverse_norm import inverse_norm

NORMS = [10.0**exponent for exponent in range(-18, 19, 3)]


def kernel(x, eps):
    return inverse_norm(x.unsqueeze(0), eps).squeeze(0)


@pytest.mark.parametrize("function", [kernel, reference.inverse_norm], ids=["cpu", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("length", NORMS)
def test_gradient(length, dtype, function):
    x = torch.nn.functional.normalize(normal(9, 5).abs() + 1, dim=1)
    x = (x * length).to(dtype).requires_grad_()
    # As large as an operator's: the product of what the scores get with the row that is scaled.
    grad = (normal(9, 5, seed=1) * x.detach().float()).sum(1)
    (found,) = torch.autograd.grad((function(x, 0.0) * grad).sum(), x)
    wide = x.detach().double()
    expected = -grad.unsqueeze(1).double() * wide / wide.norm(dim=1, keepdim=True) ** 3
    # The reference sums halves in halves where it is called on its own.
    tolerance = 1e-6 if dtype == torch.float32 else 0.03
    assert float(((found.double() - expected).norm(dim=1) / expected.norm(dim=1)).max()) < tolerance


@pytest.mark.parametrize("eps", [0.0, 0.3])
@pytest.mark.parametrize("function", [kernel, reference.inverse_norm], ids=["cpu", "reference"])
def test_derivatives(function, eps):
    x = normal(4, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: function(x, eps), x)
    assert torch.autograd.gradgradcheck(lambda x: function(x, eps), x)


@pytest.mark.parametrize("eps", [0.0, 0.3])
def test_reference_is_the_formula(eps):
    x = normal(9, 5, dtype=torch.float64)
    expected = (x.square().sum(1) + eps).rsqrt()
    torch.testing.assert_close(reference.inverse_norm(x, eps), expected, rtol=1e-14, atol=0)
    assert not reference.inverse_norm(torch.zeros(2, 3), eps).any()


@pytest.mark.parametrize("server", ["kernels", "composition", "reference"])
@pytest.mark.parametrize("length", [1e-18, 1e-15, 1e15, 1e18])
def test_ignored_rows_have_gradient_zero(length, server, monkeypatch):
    monkeypatch.setattr(backend, "serving", lambda *_: server)
    user, item = normal(3, 4), normal(5, 4, seed=1)
    user[1] *= length
    user.requires_grad_()
    loss = fusion_cross_entropy(user, item, torch.tensor([0, -100, 2]), normalization="cosine")
    (grad,) = torch.autograd.grad(loss, user)
    assert not grad[1].any()
    assert grad.isfinite().all()
