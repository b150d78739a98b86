"""A first kernel: right results, and one of each kind of error."""

from __future__ import annotations

import pytest
import torch

import emulator
from emulator import cuda

pytestmark = pytest.mark.skipif(emulator.missing() is not None, reason=str(emulator.missing()))

REVERSE = """
__global__ void reverse(const float* x, float* y, int n, int bug) {
  __shared__ float kept[64];
  const int i = blockIdx.x * 64 + threadIdx.x;
  kept[threadIdx.x] = i < n + bug ? x[i] : 0;
  if (bug != 2) __syncthreads();
  if (i < n) y[i] = 2 * kept[63 - threadIdx.x];
}
extern "C" int run(const float* x, float* y, long n, long bug) {
  reverse<<<(n + 63) / 64, 64>>>(x, y, n, bug);
  return cudaGetLastError();
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    source = tmp_path_factory.mktemp("kernels") / "reverse.cu"
    source.write_text(REVERSE)
    return cuda.compile_library(source)


def test_a_kernel_runs(library):
    x, y = torch.randn(100), torch.zeros(100)
    with emulator.guarded(x, y), emulator.checks(order="shuffled"):
        library("run", x, y, 100, 0)
    assert y[:64].equal(2 * x[:64].flip(0))


def test_errors_name_the_kernel_and_the_line(library):
    x, y = torch.randn(100), torch.zeros(100)
    with (
        emulator.guarded(x, y),
        pytest.raises(
            emulator.EmulationError, match=r"reverse.*global read out of bounds.*reverse.cu:5"
        ),
    ):
        library("run", x, y, 100, 1)
    with (
        emulator.checks(),
        pytest.raises(emulator.EmulationError, match=r"reverse.*uninitialised.*reverse.cu:7"),
    ):
        library("run", x, y, 100, 2)
