"""The native build keeps its promises: stable ABI only, run-time dispatch, both faces alike."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
import torch

import fusionops
from fusionops import _native
from fusionops.ops._library import LIBRARY


@pytest.mark.skipif(shutil.which("nm") is None, reason="binutils' nm is not installed")
def test_torch_library_uses_the_stable_abi_only():
    listing = subprocess.run(
        ["nm", "-D", "--undefined-only", "--demangle", str(LIBRARY)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "aoti_torch_" in listing  # it does call torch, through C functions
    unstable = [line for line in listing.splitlines() if "at::" in line or "c10::" in line]
    assert unstable == []


@pytest.mark.skipif(shutil.which("nm") is None, reason="binutils' nm is not installed")
def test_libraries_export_no_kernel_symbols():
    """Hidden symbols: two copies of fusionops in a process can't take each other's kernels."""
    for library in (str(LIBRARY), _native.__file__):
        listing = subprocess.run(
            ["nm", "-D", "--defined-only", "--demangle", library],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "fusionops::cpu" not in listing


def test_build_info_names_what_runs():
    info = _native.build_info()
    assert info["isa"] == info["isas_runnable"][-1]
    assert set(info["isas_runnable"]) <= set(info["isas_built"])
    assert info["isas_built"][0] == "baseline"
    assert info["threads"] >= 1
    assert info["compiler"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_faces_give_the_same_bits(dtype):
    rng = np.random.default_rng(0)
    user, item = rng.normal(size=(37, 19)).astype(dtype), rng.normal(size=(501, 19)).astype(dtype)
    scores, indices = _native.fusion_topk(user, item, 10, item_scale=_native.inverse_norm(item))
    expected = fusionops.fusion_topk(torch.from_numpy(user), torch.from_numpy(item), 10)
    assert np.array_equal(scores, expected[0].numpy())
    assert np.array_equal(indices, expected[1].numpy())


def test_numpy_face_takes_any_strides():
    rng = np.random.default_rng(1)
    user, item = rng.normal(size=(8, 9)).astype("f4"), rng.normal(size=(9, 20)).astype("f4")
    expected = _native.fusion_matrix(user, np.ascontiguousarray(item.T))
    assert np.array_equal(_native.fusion_matrix(user, item.T), expected)
    flipped = _native.fusion_matrix(user[::-1], item.T[::2])
    assert np.array_equal(flipped, expected[::-1, ::2])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"user": np.zeros(3, "f4")}, ValueError, "user: expected 2 dimensions, got float32 [3]"),
        ({"user": np.zeros((2, 4), "i4")}, TypeError, "user: expected a float64, float32 or"),
        ({"user": np.zeros((2, 5), "f4")}, ValueError, "item: expected rows of width 5"),
        ({"user": np.zeros((2, 4), "f8")}, TypeError, "item: expected the dtype of user"),
        ({"k": 0}, ValueError, "k: expected at least 1, got 0"),
        ({"item_scale": np.zeros(2, "f4")}, ValueError, "item_scale: expected the shape [3]"),
        ({"allowed": np.zeros(2, bool)}, ValueError, "allowed: expected the shape [3] or [2, 3]"),
        ({"allowed": np.zeros(3, "f4")}, TypeError, "allowed: expected a bool array"),
        (
            {"exclude": (np.array([0, 1, 2]), np.array([0, 3]))},
            IndexError,
            "exclude: index 3 at position 1 is out of range for 3 items",
        ),
        (
            {"exclude": (np.array([0, 2]), np.array([0, 1]))},
            ValueError,
            "exclude: expected offsets of the shape [3]",
        ),
    ],
)
def test_numpy_face_names_what_is_wrong(arguments, error, message):
    base = {"user": np.zeros((2, 4), "f4"), "item": np.zeros((3, 4), "f4"), "k": 1}
    with pytest.raises(error) as caught:
        _native.fusion_topk(**{**base, **arguments})
    assert message in str(caught.value)


def test_many_threads_at_once_agree(run_python):
    code = """
        import concurrent.futures, json, numpy as np
        from fusionops import _native
        rng = np.random.default_rng(0)
        user = rng.normal(size=(64, 16)).astype("f4")
        item = rng.normal(size=(20000, 16)).astype("f4")
        want = _native.fusion_topk(user, item, 5)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda _: _native.fusion_topk(user, item, 5), range(40)))
        same = all(np.array_equal(a, b) for r in results for a, b in zip(r, want))
        print(json.dumps({"same": same, "threads": _native.build_info()["threads"]}))
    """
    outcome = json.loads(run_python(code, FUSIONOPS_NUM_THREADS="4"))
    assert outcome == {"same": True, "threads": 4}


def test_a_bad_thread_count_is_refused(run_python):
    code = """
        from fusionops import _native
        try:
            _native.build_info()
        except ValueError as error:
            print(error)
    """
    said = run_python(code, FUSIONOPS_NUM_THREADS="many")
    assert said.strip() == ("FUSIONOPS_NUM_THREADS must be an integer from 1 to 4096, got 'many'")
