"""Triton's kernels in both modes, beside each other in one process, and compiled for other GPUs."""

from __future__ import annotations

import pytest
import torch

import emulator
import emulator.triton

pytestmark = pytest.mark.skipif(
    emulator.triton.missing() is not None, reason=str(emulator.triton.missing())
)

CONSTANTS = {"BM": 16, "BN": 16, "BK": 16, "num_warps": 2}


@pytest.fixture(scope="module")
def product():
    from emulator.kernels import triton_product

    return triton_product.product


def arguments(dtype: torch.dtype, m: int = 19, n: int = 16, k: int = 21) -> list:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(m, k, generator=generator).to(dtype)
    b = torch.randn(k, n, generator=generator).to(dtype)
    c = torch.full((m, n), float("nan"))
    return [a, b, c, m, n, k, *a.stride(), *b.stride(), *c.stride()]


def expected(args: list) -> torch.Tensor:
    scores = args[0].double() @ args[1].double()
    return scores - scores.amax(1, keepdim=True) + 0.5 * scores.sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("mode", "dtype"),
    [
        ("interpreted", torch.float32),
        ("compiled", torch.float32),
        ("interpreted", torch.float16),
        ("compiled", torch.float16),
        ("compiled", torch.bfloat16),
    ],
)
def test_both_modes_in_one_process(product, mode, dtype):
    args = arguments(dtype)
    with emulator.triton.mode(mode), emulator.checks(order="shuffled"):
        emulator.triton.launch(product, (2, 1), *args, **CONSTANTS)
    torch.testing.assert_close(args[2].double(), expected(args), rtol=1e-5, atol=1e-4)


def test_arguments_are_specialised_as_on_a_gpu(product):
    """A row stride of 1 and sizes that 16 divides compile to kernels of their own."""
    for m, n, k in ((16, 16, 32), (19, 16, 1)):
        args = arguments(torch.float32, m, n, k)
        with emulator.triton.mode("compiled"):
            emulator.triton.launch(product, (2, 1), *args, **CONSTANTS)
        torch.testing.assert_close(args[2].double(), expected(args), rtol=1e-5, atol=1e-4)


def test_compiled_kernels_stay_inside_their_arguments(product):
    args = arguments(torch.float32)
    args[3] += 1  # one row more than there is
    with (
        emulator.triton.mode("compiled"),
        pytest.raises(emulator.EmulationError, match=r"product: global read out of bounds"),
    ):
        emulator.triton.launch(product, (2, 1), *args, **CONSTANTS)


def test_bfloat16_is_not_interpreted(product):
    with emulator.triton.mode("interpreted"), pytest.raises(TypeError, match="bfloat16"):
        emulator.triton.launch(product, (2, 1), *arguments(torch.bfloat16), **CONSTANTS)


def test_a_launch_outside_of_a_mode_is_refused(product):
    with pytest.raises(RuntimeError, match="no mode entered"):
        emulator.triton.launch(product, (2, 1), *arguments(torch.float32), **CONSTANTS)


def test_the_name_of_a_mode_is_checked():
    with pytest.raises(ValueError, match="interpreted, compiled"), emulator.triton.mode("fast"):
        pass


@pytest.mark.parametrize("capability", [80, 90, 100, 120])
def test_kernels_compile_for_gpus_that_are_not_there(product, capability):
    from emulator import resources

    args = arguments(torch.bfloat16)
    ptx, cubin, metadata = emulator.triton.compile_for(product, args, CONSTANTS, capability)
    found = resources.of_triton(ptx, capability)
    assert f".target sm_{capability}" in ptx
    assert cubin.startswith(b"\x7fELF")
    assert metadata.shared > 0
    assert found.kernel == metadata.name == "product"
    assert 0 < found.registers <= 255
    assert found.spill_stores == found.spill_loads == 0
    assert "mma.sync" in found.text
