"""What fuses profiles by each implementation: reference, composition, every instruction set."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from profile_support import OPERATORS, Case, cases, check, presence
from support import DTYPES, Recorder, name_of
from torch.utils._python_dispatch import TorchDispatchMode

import fusionops
from fusionops import _native, backend
from fusionops.ops import composition

TESTS = Path(__file__).parents[1]
CASES = cases(batch=5, rows=3, tokens=9, features=10, table=13)
COMPOSED = importlib.util.find_spec("fusionops.ops.composition_profiles") is not None
composed_only = pytest.mark.skipif(not COMPOSED, reason="no composition of these operators yet")


@pytest.mark.parametrize("name", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients(case, dtype, name):
    with fusionops.use_backend(name):
        check(case, case.leaves(dtype))


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_choice_is_heeded(operator):
    """Kernels of ours run by default and under ``cpu``, and not under ``reference``."""
    case = next(case for case in CASES if case.operator == operator)
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves().items()}

    def called():
        with Recorder() as recorder:
            sum(result.sum() for result in case(**leaves)).backward()
        return [function for function, _ in recorder.calls]

    with fusionops.use_backend("reference"):
        assert not called()
        with fusionops.use_backend("cpu"):
            assert len(called()) >= 2, "no kernels of ours serve it"
        assert not called()
    assert len(called()) >= 2, "no kernels of ours serve it"


@pytest.fixture
def composed(monkeypatch):
    """Every call is served as one on a device without kernels of ours."""
    monkeypatch.setattr(backend, "serving", lambda *_: "composition")


@pytest.fixture(params=[1, 64, 1000, 1 << 22])
def chunk(request, monkeypatch):
    """Chunks of one row up to one chunk for all."""
    small_chunks(monkeypatch, request.param)


def small_chunks(monkeypatch, elements):
    monkeypatch.setattr(composition, "CHUNK_ELEMENTS", elements)
    if COMPOSED:
        from fusionops.ops import composition_profiles

        if hasattr(composition_profiles, "CHUNK_ELEMENTS"):
            monkeypatch.setattr(composition_profiles, "CHUNK_ELEMENTS", elements)


@composed_only
@pytest.mark.usefixtures("composed", "chunk")
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_composition(case, dtype):
    check(case, case.leaves(dtype))


class Largest(TorchDispatchMode):
    """The most bytes of any tensor that an operator makes."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        for part in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(part, torch.Tensor):
                self.bytes = max(self.bytes, part.untyped_storage().nbytes())
        return result


SIDES = {"query": (4, 200, 8), "key": (4, 300, 8), "value": (4, 300, 8)}
LARGE = [
    Case("attention", "attention_fusion", SIDES, {"mask": presence(4, 300), "num_heads": 2}),
    Case(
        "dropout",
        "attention_fusion",
        SIDES,
        {"num_heads": 2, "dropout_p": 0.5, "seed": torch.tensor(3)},
    ),
    Case("bidirectional", "bidirectional_fusion", {"user": (4, 200, 8), "item": (4, 300, 8)}),
]


@composed_only
@pytest.mark.usefixtures("composed")
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_composition_never_holds_all_scores(case, monkeypatch):
    """Neither in one tensor, forward or backward, nor in pieces kept for the backward."""
    small_chunks(monkeypatch, 5000)
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves(torch.float32).items()}
    scores = 4 * 4 * 200 * 300 * case.fixed.get("num_heads", 1)
    saved = {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with (
        Largest() as largest,
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        loss = sum(result.sum() for result in case(**leaves))
        assert sum(saved.values()) < scores / 2
        loss.backward()
    assert largest.bytes < scores / 2
    check(case, case.leaves(torch.float32))


# All forms at odd sizes around vector widths, in every dtype, with gradients; and the reranking.
CHECK = """
import torch
from support import *
from profile_support import *
from test_mmr_rerank import inputs as candidates, naive
from fusionops import _native
assert _native.build_info()["isa"] == {isa!r}, _native.build_info()
torch.set_num_threads(1)
for dtype in DTYPES:
    for sizes in ((3, 1, 4, 64, 7), (2, 7, 9, 38, 31), (1, 19, 70, 18, 5)):
        for case in cases(*sizes):
            if sizes[2] < 10 or (dtype == torch.float32 and case.name != "dropout"):
                check(case, case.leaves(dtype))
# Few queries over long rows of heads so wide that a block of them is less than all.
sides = [normal(1, rows, 2048, seed=rows).requires_grad_() for rows in (8, 300, 301)]
sides[2] = sides[2].detach()[:, 1:].requires_grad_()
truths = [side.detach().double().requires_grad_() for side in sides]
scores = torch.softmax(truths[0] @ truths[1].mT / 2048**0.5, -1)
found = torch.autograd.grad(fusionops.attention_fusion(*sides).square().sum(), sides)
for ours, truth in zip(found, torch.autograd.grad((scores @ truths[2]).square().sum(), truths)):
    assert (ours - truth).norm() < 1e-4 * truth.norm()
for size in ((1, 1, 1, 1), (7, 33, 127, 7), (3, 70, 19, 31)):
    scores, vectors = candidates(size)
    mask = normal(*size[:2], seed=5) > -0.5
    found = fusionops.mmr_rerank(scores, vectors, size[3], trade_off=0.3, mask=mask)
    assert_bits(found, naive(scores, vectors, size[3], 0.3, mask))
print("right")
"""


@pytest.mark.parametrize("isa", _native.build_info()["isas_runnable"])
def test_instruction_sets(isa):
    path = os.pathsep.join(
        [str(TESTS), str(TESTS / "ops"), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [sys.executable, "-c", CHECK.format(isa=isa)],
        env={**os.environ, "FUSIONOPS_ISA": isa, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "right\n"
