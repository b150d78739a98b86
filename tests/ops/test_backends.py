"""use_backend and the instruction sets: every implementation gives the same answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import (
    NORMALIZATIONS,
    OPERATORS,
    assert_within,
    bound,
    inputs,
    name_of,
    normal,
    random_lists,
    scores_of,
)

import fusionops
from fusionops import _native, fusion_topk, reference

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=name_of)
@pytest.mark.parametrize("operator", OPERATORS)
def test_reference_agrees(operator, dtype, normalization):
    user, item = inputs((9, 60, 7), dtype)
    leaves = [side.requires_grad_() for side in (user, item, normal(60, 5, dtype=dtype))]
    results = {}
    for name in ("cpu", "reference"):
        with fusionops.use_backend(name):
            result = scores_of(operator, *leaves, normalization=normalization)
        results[name] = [result, *torch.autograd.grad(result.square().sum(), leaves[:2])]
    for ours, theirs in zip(results["cpu"], results["reference"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=name_of)
def test_reference_in_half(dtype, normalization):
    """Sums, G and W are float32; the result is rounded once."""
    user, item = inputs((9, 60, 7), dtype)
    truth = reference.fusion_matrix(user.double(), item.double(), normalization=normalization)
    with fusionops.use_backend("reference"):
        matrix = fusionops.fusion_matrix(user, item, normalization=normalization)
        scores, indices = fusion_topk(user, item, 60, normalization=normalization)
    assert matrix.dtype == dtype
    assert_within(matrix, truth, bound(user, item, normalization=normalization))
    assert scores.dtype == torch.float32
    limit = bound(user, item, torch.float32, normalization=normalization)
    assert_within(scores, truth.gather(1, indices), limit.gather(1, indices))


def test_reference_takes_every_form_of_list():
    user, item = inputs((6, 40, 4), torch.float64)
    offsets, indices = random_lists(6, 40, 12)
    forms = [(offsets, indices), torch.nested.nested_tensor_from_jagged(indices, offsets)]
    expected = fusion_topk(user, item, 5, exclude=forms[0])[1]
    for form in forms:
        with fusionops.use_backend("reference"):
            assert torch.equal(fusion_topk(user, item, 5, exclude=form)[1], expected)


def test_backends_nest_and_are_left_after_an_error():
    user, item = normal(2, 3).requires_grad_(), normal(4, 3, seed=1)

    def served_by_an_operator():
        """Whether a kernel of ours is in the graph of a result."""
        names, todo = [], [fusionops.fusion_matrix(user, item).grad_fn]
        while todo:
            node = todo.pop()
            names.append(node.name())
            todo += [parent for parent, _ in node.next_functions if parent is not None]
        return not any("MmBackward" in name for name in names)

    def fail():
        with fusionops.use_backend("reference"):
            raise KeyError

    assert served_by_an_operator()
    with fusionops.use_backend("reference"):
        assert not served_by_an_operator()
        with fusionops.use_backend("cpu"):
            assert served_by_an_operator()
        assert not served_by_an_operator()
    with pytest.raises(KeyError):
        fail()
    assert served_by_an_operator()


# Every operator and normalisation of an odd shape and of one with several tiles, in every dtype.
CHECK = """
import torch
from support import *
from fusionops import _native
assert _native.build_info()["isa"] == {isa!r}, _native.build_info()
for dtype in DTYPES:
    for shape in ((1, 1, 1), (31, 127, 37), (5, 4500, 19)):
        user, item = inputs(shape, dtype)
        values = normal(shape[1], 5, dtype=dtype, seed=3)
        for normalization in NORMALIZATIONS:
            norm = dict(normalization=normalization)
            truth = reference.fusion_matrix(user.double(), item.double(), **norm)
            matrix = fusionops.fusion_matrix(user, item, **norm)
            assert_within(matrix, truth, bound(user, item, **norm))
            found = fusionops.fusion_topk(user, item, 9, **norm)
            assert_topk(found, truth, 9, bound(user, item, accumulation(dtype), **norm))
            if dtype in (torch.float64, torch.float32):
                listed = found[1] >= 0
                entries = matrix.gather(1, found[1].clamp_min(0))
                assert_bits(found[0][listed], entries[listed])
            leaves = [side.clone().requires_grad_() for side in (user, item, values)]
            result = fusionops.fusion_recommend(*leaves, **norm)
            grad = normal(*result.shape, dtype=dtype, seed=4)
            assert_gradients(
                torch.autograd.grad(result, leaves, grad),
                lambda *sides: reference.fusion_recommend(*sides, **norm), grad, *leaves,
            )
print("right")
"""


def run(code, isa):
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "FUSIONOPS_ISA": isa, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("isa", _native.build_info()["isas_runnable"])
def test_instruction_sets(isa):
    done = run(CHECK.format(isa=isa), isa)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "right\n"


def test_unknown_instruction_set():
    call = "import torch, fusionops; fusionops.fusion_matrix(torch.eye(2), torch.eye(2))"
    for code in (call, "from fusionops import _native; _native.build_info()"):
        done = run(code, "sse9")
        assert done.returncode != 0
        last = done.stderr.strip().splitlines()[-1]
        for part in ("ValueError", "FUSIONOPS_ISA", "sse9", "baseline"):
            assert part in last
