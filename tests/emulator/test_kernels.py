"""Kernels that are right give right results, in every order of threads and under every check."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special

import emulator
from emulator.settings import ORDERS


@pytest.fixture(params=ORDERS)
def checked(request):
    with emulator.checks(order=request.param):
        yield


def whole(*shape: int, dtype=torch.float32) -> torch.Tensor:
    """Small whole numbers, whose sums of products are exact in float32."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-4, 5, shape, generator=generator).to(dtype)


@pytest.mark.parametrize(("m", "n", "k"), [(33, 20, 17), (16, 16, 16), (1, 1, 1)])
@pytest.mark.usefixtures("checked")
def test_tiled_product(kernels, m, n, k):
    a, b, c = whole(m, k), whole(k, n), torch.full((m, n), float("nan"))
    with emulator.guarded(c, read_only=(a, b)):
        kernels("run_gemm", a, b, c, m, n, k)
    assert c.equal(a @ b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("checked")
def test_tensor_cores_through_cp_async_and_ldmatrix(kernels, dtype):
    a, b, c = whole(16, 96, dtype=dtype), whole(96, 8, dtype=dtype), torch.full((16, 8), np.nan)
    with emulator.guarded(c, read_only=(a, b)):
        kernels("run_tensor_core", a, b, c, 96, int(dtype == torch.float16))
    assert c.equal(a.float() @ b.float())


def test_tf32_keeps_ten_bits_of_the_mantissa(kernels):
    a = 1 + torch.arange(128).view(16, 8) * 2.0**-12
    b, c = torch.eye(8), torch.full((16, 8), np.nan)
    kernels("run_tf32_tile", a, b, c)
    rounded = (a * 1024 + 0.5).floor() / 1024
    assert c.equal(rounded)


@pytest.mark.parametrize("threads", [32, 128, 1024])
@pytest.mark.usefixtures("checked")
def test_warp_reductions(kernels, threads):
    x, y = whole(5, 260), torch.full((5,), np.nan)
    kernels("run_row_sums", x, y, 5, 260, threads)
    assert y.equal(x.sum(1))


@pytest.mark.usefixtures("checked")
def test_atomics(kernels):
    x, counts = torch.randint(0, 100, (1000,), dtype=torch.int32), torch.zeros(8, dtype=torch.int32)
    kernels("run_histogram", x, counts, 1000)
    assert counts.tolist() == np.bincount(x.numpy() & 7, minlength=8).tolist()


def test_what_lanes_say_to_each_other(kernels):
    x = torch.randint(0, 1000, (32,), dtype=torch.int32)
    y = torch.zeros(7, 32, dtype=torch.int32)
    kernels("run_warp_words", x, y)
    v, lanes = x.numpy().astype(np.int64), np.arange(32)
    odd = int(((v & 1) << lanes).sum())
    same = [int(((v & 3 == v[i] & 3).astype(np.int64) << lanes).sum()) for i in range(32)]
    up = [v[i - 3] if i % 8 >= 3 else v[i] for i in range(32)]
    expected = [
        [odd] * 32,
        same,
        [v.sum()] * 32,
        [v.max()] * 32,
        [(v & 1).sum()] * 32,
        [3] * 32,
        up,
    ]
    assert np.array_equal(y.numpy().view(np.uint32), np.array(expected, dtype=np.uint32))


def test_mathematical_functions(kernels):
    n = 150
    x = torch.linspace(-3, 3, n)
    y = torch.full((16, n), np.nan)
    kernels("run_math", x, y, n)
    v = x.double().numpy()
    a, i = np.abs(v), np.arange(n)
    expected = [
        np.exp(v),
        np.log(a + 1),
        np.tanh(v),
        1 / np.sqrt(a + 0.5),
        np.sin((x * 10).double().numpy()),
        special.erf(v),
        a ** np.double(np.float32(1.7)),
        np.rint(v),
        v / (v + 30),
        np.log1p(a),
        v ** (i % 4),
        v * 2.0 ** (i % 4),
        np.exp2(v),
        np.cos(v),
        np.exp(v),
        np.sqrt(a),
    ]
    np.testing.assert_allclose(y.double().numpy(), expected, rtol=1e-6, atol=1e-6)
