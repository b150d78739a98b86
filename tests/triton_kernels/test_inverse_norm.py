"""inverse_norm in Triton: values, strides, zeros and NaN."""

from __future__ import annotations

import pytest
import torch
from support import epsilon, name_of, normal
from triton_support import INTERPRETED, needs_triton, served

pytestmark = needs_triton

OPERATORS = torch.ops.fusionops_triton


def expected(x, eps):
    squares = x.double().square().sum(-1)
    return torch.where(squares == 0, 0.0, (squares + eps).rsqrt())


@pytest.mark.parametrize(
    "way", [*INTERPRETED, ("compiled", torch.bfloat16)], ids=lambda way: "-".join(map(name_of, way))
)
@pytest.mark.parametrize("eps", [0.0, 0.3])
def test_values(eps, way):
    """Of transposed vectors too, of which two have zeros and NaN."""
    mode, dtype = way
    x = normal(2, 37, 21, dtype=dtype)
    x[0, 3], x[1, 5, 2] = 0.0, float("nan")
    for laid in (x, x.mT.contiguous().mT):
        with served(mode):
            found = OPERATORS.inverse_norm(laid, eps)
        assert found.dtype == torch.float32
        torch.testing.assert_close(
            found.double(),
            expected(x, eps),
            rtol=8 * epsilon(torch.float32),
            atol=0,
            equal_nan=True,
        )


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 700), (1, 70, 600), (0, 3, 4), (2, 3, 0)])
def test_shapes(shape):
    x = normal(*shape)
    with served("interpreted"):
        found = OPERATORS.inverse_norm(x, 0.0)
    torch.testing.assert_close(found.double(), expected(x, 0.0), rtol=1e-6, atol=0)
