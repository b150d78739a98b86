"""Each mistake that the emulator is there to find is found, and only where it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import emulator
from emulator.settings import ORDERS

LINES = (Path(__file__).parent / "kernels" / "planted.cu").read_text().splitlines()


def place(comment: str) -> str:
    """The place of the line with this comment, as messages name it."""
    return f"planted.cu:{next(i for i, line in enumerate(LINES, 1) if line.endswith(comment))}"


@pytest.fixture
def x():
    return torch.arange(256, dtype=torch.float32)


@pytest.fixture
def y():
    return torch.full((256,), float("nan"))


def fails(kernel: str, what: str, at: str | None = None):
    where = ".*" + re.escape(place(at)) if at else ""
    return pytest.raises(emulator.EmulationError, match=f"{kernel}.*{what}{where}")


@pytest.mark.parametrize("order", ORDERS)
def test_missing_barrier_before_use(planted, x, y, order):
    with emulator.checks(order=order):
        planted("run_barrier_before_use", x, y, 1)
        assert y[:64].equal(x[:64].flip(0))
    with (
        emulator.checks(init=False, order=order),
        fails("barrier_before_use", "race"),
    ):
        planted("run_barrier_before_use", x, y, 0)


def test_missing_barrier_before_use_reads_what_nobody_wrote(planted, x, y):
    with (
        emulator.checks(race=False),
        fails("barrier_before_use", "uninitialised read", "missing barrier before"),
    ):
        planted("run_barrier_before_use", x, y, 0)


@pytest.mark.parametrize("order", ORDERS)
def test_missing_barrier_after_use(planted, x, y, order):
    with emulator.checks(order=order):
        planted("run_barrier_after_use", x, y, 1)
    assert torch.allclose(y[:64], x[:192].sum().expand(64))
    with (
        emulator.checks(order=order),
        fails("barrier_after_use", "race", "missing barrier after"),
    ):
        planted("run_barrier_after_use", x, y, 0)


def test_missing_syncwarp(planted, x, y):
    with emulator.checks():
        planted("run_warp_exchange", x, y, 1)
    assert y[:32].equal(x[:32].flip(0))
    with emulator.checks(init=False), fails("warp_exchange", "race"):
        planted("run_warp_exchange", x, y, 0)


def test_missing_wait_for_an_asynchronous_copy(planted, x, y):
    with emulator.checks():
        planted("run_async_copy", x, y, 1)
    assert y.view(64, 4).equal(x.view(64, 4).flip(0))
    with (
        emulator.checks(race=False),
        fails("async_copy", "before cp.async brought it", "missing wait"),
    ):
        planted("run_async_copy", x, y, 0)


def test_missing_wait_shows_without_checks_too(planted, x, y):
    planted("run_async_copy", x, y, 0)
    assert y.isnan().all()


def test_shared_memory_out_of_bounds(planted, y):
    planted("run_shared_index", y, 0)
    with fails("shared_index", "shared memory access out of bounds", "shared index"):
        planted("run_shared_index", y, 1)


def test_global_memory_out_of_bounds_by_one_element(planted, x, y):
    exact, out = x[:64].clone(), y[:64].clone()
    with emulator.guarded(exact, out):
        planted("run_global_index", exact, out, 0)
    for offset in (1, -1):
        with (
            emulator.guarded(exact, out),
            fails("global_index", "global read out of bounds", "global index"),
        ):
            planted("run_global_index", exact, out, offset)


def test_global_memory_next_to_a_view(planted, x, y):
    """The rest of a storage is as far out of bounds as any other memory."""
    with emulator.guarded(x[:64], y), fails("global_index", "global read out of bounds"):
        planted("run_global_index", x[:64], y, 1)


def test_write_to_a_tensor_that_is_only_read(planted, x, y):
    with (
        emulator.guarded(read_only=(x, y)),
        fails("global_index", "write of a read-only tensor", "global index"),
    ):
        planted("run_global_index", x, y, 0)


def test_tensors_allocated_under_a_guard_are_known_to_the_byte(planted, x):
    with emulator.guarded(x):
        out = torch.empty(64)
        planted("run_global_index", x, out, 0)
        short = torch.empty(63)
        with fails("global_index", "global write out of bounds"):
            planted("run_global_index", x, short, 0)
    assert out.equal(x[:64])


def test_guards_do_not_nest(x):
    with (
        emulator.guarded(x),
        pytest.raises(RuntimeError, match="do not nest"),
        emulator.guarded(x),
    ):
        pass


def test_a_guard_without_tensors_allows_none(planted, x, y):
    with emulator.guarded(), fails("global_index", "near no tensor"):
        planted("run_global_index", x, y, 0)


def test_elements_that_no_kernel_wrote_are_nan_under_a_guard(planted, x):
    with emulator.guarded(x):
        out = torch.empty(64)
        planted("run_partial_result", out, 60)
    assert out.isnan().nonzero().flatten().tolist() == [60, 61, 62, 63]


def test_misaligned_vector(planted, x, y):
    planted("run_vector_load", x, y, 0)
    assert y[:8].equal(x[:32].view(8, 4).sum(1))
    with fails("vector_load", "misaligned global access: 16 bytes", "vector load"):
        planted("run_vector_load", x, y, 1)


def test_divergent_shuffle(planted, x, y):
    with fails("half_shuffle", "divergent shuffle: lane 0 reads lane 16", "half shuffle"):
        planted("run_half_shuffle", x, y, 0xFFFF)


def test_shuffle_that_half_of_the_warp_does_not_reach(planted, x, y):
    with fails("half_shuffle", "lane that has exited|deadlock"):
        planted("run_half_shuffle", x, y, 0xFFFFFFFF)


def test_uninitialised_shared_memory(planted, y):
    with emulator.checks():
        planted("run_never_written", y, 1)
    with (
        emulator.checks(race=False),
        fails("never_written", "uninitialised read of byte 20 ", "never written"),
    ):
        planted("run_never_written", y, 0)


def test_uninitialised_shared_memory_is_nan_without_checks(planted, y):
    planted("run_never_written", y, 0)
    assert y[:64].isnan().nonzero().flatten().tolist() == [5]


def test_deadlock(planted, y):
    planted("run_split_barrier", y, 0)
    with fails("split_barrier", "deadlock.*thread 0 waits at bar.sync"):
        planted("run_split_barrier", y, 1)


def test_exited_lane(planted, y):
    planted("run_early_exit", y, 0)
    with (
        emulator.checks(race=False, init=False, order="backward"),
        fails("early_exit", "lane that has exited|deadlock"),
    ):
        planted("run_early_exit", y, 1)


def test_lanes_in_different_collectives(planted, y):
    planted("run_two_collectives", y, 0)
    with fails("two_collectives", "different collectives: .*vote.ballot"):
        planted("run_two_collectives", y, 1)


def test_device_assertion(planted, y):
    planted("run_checked", y, 64)
    with fails("checked", "assertion 'threadIdx.x < limit' failed"):
        planted("run_checked", y, 63)


@pytest.mark.parametrize(
    ("threads", "size", "asks", "what"),
    [
        (1025, 4100, 0, "invalid launch configuration"),
        (64, 49_156, 0, "more than it asked for"),
        (64, 200_000, 1, "more than it asked for"),
    ],
)
def test_launches_that_cuda_refuses(planted, y, threads, size, asks, what):
    with pytest.raises(emulator.EmulationError, match=what):
        planted("run_dynamic_memory", y, threads, size, asks)


def test_dynamic_shared_memory_that_was_asked_for(planted, y):
    planted("run_dynamic_memory", y, 64, 65_536, 1)
    assert y[:64].equal(torch.arange(64.0))


def test_a_failed_kernel_leaves_the_next_one_alone(planted, x, y):
    with fails("vector_load", "misaligned"):
        planted("run_vector_load", x, y, 1)
    planted("run_vector_load", x, y, 0)
    assert y[:8].equal(x[:32].view(8, 4).sum(1))
