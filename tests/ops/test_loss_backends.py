"""The losses by other implementations: the reference, the composition, each instruction set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from list_forms import FORMS
from loss_support import (
    assert_loss,
    assert_loss_gradients,
    cases,
    contrastive,
    cross_entropy,
    gradients,
    loss_limit,
    targets,
)
from support import DTYPES, NORMALIZATIONS, inputs, name_of, normal, random_lists
from torch.utils._python_dispatch import TorchDispatchMode

import fusionops
from fusionops import _native, backend, fusion_contrastive, fusion_cross_entropy
from fusionops.ops import composition

TESTS = Path(__file__).parents[1]
CASES = cases(users=9, items=131, batch=31)


@pytest.fixture
def composed(monkeypatch):
    """Every call is served as one on a device without kernels of ours."""
    monkeypatch.setattr(backend, "serving", lambda *_: "composition")


@pytest.fixture(params=[1, 64, 1000, 1 << 22])
def chunk(request, monkeypatch):
    """Chunks of one column up to one chunk for all."""
    monkeypatch.setattr(composition, "CHUNK_ELEMENTS", request.param)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_reference_agrees(case, dtype, normalization):
    leaves = case.leaves(dtype, features=7)
    results = {}
    for name in ("cpu", "reference"):
        with fusionops.use_backend(name):
            loss = case(normalization=normalization, **leaves)
            found = gradients(lambda **s: case(normalization=normalization, **s), leaves, None)
        results[name] = [loss, *found.values()]
    for ours, theirs in zip(results["cpu"], results["reference"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_reference_has_the_dtype_of_losses(dtype):
    """In half the result may be rough, but not half."""
    user, item = inputs((9, 9, 5), dtype)
    with fusionops.use_backend("reference"):
        losses = (
            fusion_cross_entropy(user, item, targets(9, 9)),
            fusion_cross_entropy(user, item, targets(9, 9), reduction="none"),
            fusion_contrastive(user, item),
        )
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    assert [loss.dtype for loss in losses] == [expected] * 3


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("server", ["composition", "reference"])
def test_every_form_of_list(server, form, monkeypatch):
    monkeypatch.setattr(backend, "serving", lambda *_: server)
    user, item = inputs((9, 40, 5), torch.float64)
    lists = random_lists(9, 40, 20, seed=1)
    found = fusion_cross_entropy(user, item, targets(9, 40), exclude=form(lists, 40))
    expected = cross_entropy(user, item, targets(9, 40), exclude=lists)
    torch.testing.assert_close(found, expected)


@pytest.mark.usefixtures("composed", "chunk")
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_composition_values(dtype, normalization):
    user, item = inputs((9, 131, 7), dtype)
    options = {"normalization": normalization, "scale": 2.0}
    truth = cross_entropy(
        user.double(), item.double(), targets(9, 131), reduction="none", **options
    )
    found = fusion_cross_entropy(user, item, targets(9, 131), reduction="none", **options)
    assert_loss(found, truth, loss_limit(user, item, **options), dtype)
    user, item = inputs((31, 31, 7), dtype)
    ids = torch.arange(31) // 2
    truth = contrastive(user.double(), item.double(), ids=ids, **options)
    limit = torch.maximum(
        loss_limit(user, item, **options).amax(), loss_limit(user, item, dim=0, **options).amax()
    )
    assert_loss(fusion_contrastive(user, item, ids=ids, **options), truth, limit, dtype)


@pytest.mark.usefixtures("composed", "chunk")
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_composition_gradients(case, normalization):
    leaves = case.leaves(torch.float64, features=7)
    loss = case(normalization=normalization, **leaves)
    torch.testing.assert_close(loss, case.expected(normalization=normalization, **leaves))
    grad = normal(case.users, dtype=torch.float64, seed=5)
    grad = grad if loss.dim() else grad[0]
    assert_loss_gradients(
        gradients(lambda **s: case(normalization=normalization, **s), leaves, grad),
        lambda **s: case.expected(normalization=normalization, **s),
        leaves,
        grad,
        normalization=normalization,
    )


@pytest.mark.usefixtures("composed")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
def test_composition_gradients_in_other_dtypes(dtype):
    for case in CASES:
        leaves = case.leaves(dtype, features=7)
        grad = torch.ones_like(case(**leaves))
        assert_loss_gradients(
            gradients(case, leaves, grad),
            case.expected,
            leaves,
            grad,
            arrives=float(grad.norm()),
        )


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operator makes."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        for part in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(part, torch.Tensor):
                self.elements = max(self.elements, part.untyped_storage().nbytes())
        return result


@pytest.mark.usefixtures("composed")
@pytest.mark.parametrize("case", cases(users=60, items=900, batch=300, most=20), ids=str)
def test_composition_never_holds_all_logits(case, monkeypatch):
    """Neither in one tensor, forward or backward, nor in pieces kept for the backward."""
    monkeypatch.setattr(composition, "CHUNK_ELEMENTS", 1000)
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves(torch.float32).items()}
    logits = 4 * case.users * case.items
    saved = {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with (
        Largest() as largest,
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        loss = case(**leaves).sum()
        assert sum(saved.values()) < logits / 2
        loss.backward()
    assert largest.elements < logits / 2


@pytest.mark.usefixtures("composed", "chunk")
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_composition_edges(reduction):
    """Nothing counted, everything excluded, biases of -inf, huge logits."""
    user, item = inputs((4, 31, 5), torch.float32)
    options = {"reduction": reduction, "label_smoothing": 0.1}
    for users, items in ((4, 31), (0, 31), (0, 0)):
        found = fusion_cross_entropy(
            user[:users], item[:items], torch.full((users,), -100), **options
        )
        assert found.shape == ((users,) if reduction == "none" else ())
        assert bool(found.isnan().all()) if reduction == "mean" else not found.any()
    lists = torch.arange(5) * 31, torch.arange(31).repeat(4)
    found = fusion_cross_entropy(user, item, targets(4, 31), exclude=lists, **options)
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-6)
    bias = torch.zeros(31).index_fill_(0, torch.arange(20), -torch.inf)
    leaves = {"user": user, "item": item, "item_bias": bias}
    target = 20 + targets(4, 11)
    options = {"target": target, "reduction": reduction, "scale": 1e4, "normalization": "none"}
    doubles = {name: leaf.double() for name, leaf in leaves.items()}
    torch.testing.assert_close(
        fusion_cross_entropy(**leaves, **options).double(),
        cross_entropy(**doubles, **options),
        rtol=1e-5,
        atol=1e-3,
    )
    for grad in gradients(lambda **s: fusion_cross_entropy(**s, **options), leaves, None).values():
        assert grad.isfinite().all()


# Both losses of an odd shape and of one with several tiles, in every dtype, with gradients.
CHECK = """
import torch
from support import *
from loss_support import *
from fusionops import _native
assert _native.build_info()["isa"] == {isa!r}, _native.build_info()
for dtype in DTYPES:
    for shape in ((1, 1, 1), (31, 127, 37), (5, 4500, 19)):
        for normalization in ("diagonal", "cosine"):
            norm = dict(normalization=normalization)
            user, item = inputs(shape, dtype)
            bias = normal(shape[1], dtype=accumulation(dtype), seed=2)
            leaves = dict(user=user, item=item, item_bias=bias,
                          scale=torch.tensor(1.5, dtype=accumulation(dtype)))
            fixed = dict(
                target=targets(*shape[:2]), exclude=random_lists(*shape[:2], shape[1]),
                label_smoothing=0.1, reduction="none", **norm,
            )
            doubles = dict((name, leaf.double()) for name, leaf in leaves.items())
            found = fusionops.fusion_cross_entropy(**leaves, **fixed)
            limit = loss_limit(user, item, 1.5, bias, **norm)
            assert_loss(found, cross_entropy(**doubles, **fixed), limit, dtype)
            grad = normal(shape[0], dtype=found.dtype, seed=5)
            assert_loss_gradients(
                gradients(lambda **s: fusionops.fusion_cross_entropy(**s, **fixed), leaves, grad),
                lambda **s: cross_entropy(**s, **fixed), leaves, grad,
                arrives=float(grad.norm()), **norm,
            )
    for batch in (1, 31, 300):
        user, item = inputs((batch, batch, 19), dtype)
        leaves = dict(user=user, item=item, scale=torch.tensor(1.5, dtype=accumulation(dtype)))
        ids = torch.arange(batch) // 3
        truth = contrastive(user.double(), item.double(), scale=1.5, ids=ids)
        limit = torch.maximum(loss_limit(user, item, 1.5).amax(),
                              loss_limit(user, item, 1.5, dim=0).amax())
        assert_loss(fusionops.fusion_contrastive(**leaves, ids=ids), truth, limit, dtype)
        assert_loss_gradients(
            gradients(lambda **s: fusionops.fusion_contrastive(**s, ids=ids), leaves, None),
            lambda **s: contrastive(**s, ids=ids), leaves,
            arrives=batch ** -0.5,
        )
print("right")
"""


@pytest.mark.parametrize("isa", _native.build_info()["isas_runnable"])
def test_instruction_sets(isa):
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
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
