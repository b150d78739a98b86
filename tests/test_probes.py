"""The machine's own rates: what can be said of them on any machine, busy or not."""

import numpy as np
import pytest

from fusionops import _native

KINDS = ("float64", "float32", "bfloat16", "int8")


@pytest.mark.parametrize("kind", KINDS)
def test_the_tile_does_not_pass_the_peak_by_much(kind):
    tile = _native.operation_rate(kind, 128, 0.02)
    peak = _native.operation_rate(kind, 0, 0.02)
    assert 0 < tile < 1e13
    # Emulated steps share work between the columns of a tile, so it may pass the lone step's rate.
    assert tile < 3 * peak


def test_a_copy_copies_and_a_read_changes_nothing():
    buffer = np.arange(2**21, dtype=np.float32)
    before = buffer.copy()
    assert 0 < _native.memory_rate("read", buffer, 0.0) < 1e13
    np.testing.assert_array_equal(buffer, before)
    assert _native.memory_rate("copy", buffer, 0.0) > 0
    aligned = -buffer.ctypes.data % 64 // 4
    chunks = (buffer.nbytes - 4 * aligned) // 2 // 2**20 * 2**20 // 4
    target = buffer[aligned + chunks : aligned + 2 * chunks]
    np.testing.assert_array_equal(target, before[aligned : aligned + chunks])
    assert _native.memory_rate("write", buffer, 0.0) > 0
    assert (buffer[aligned : aligned + chunks] == 1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _native.operation_rate("int4"), "dtype: expected float64"),
        (lambda: _native.operation_rate("int8", -1), "depth: expected 0 to 4096, got -1"),
        (lambda: _native.operation_rate("int8", 0, float("nan")), "seconds: expected"),
        (lambda: _native.memory_rate("move", np.ones(1 << 20, np.float32)), "traffic: expected"),
        (lambda: _native.memory_rate("read", np.ones(8)), "buffer: expected a contiguous array"),
        (
            lambda: _native.memory_rate("read", np.ones((2048, 2048), np.float32)[:, ::2]),
            "buffer: expected a contiguous array",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
